"""Stands in for torch where only its threads and seeds matter: the real one takes a second to import."""


class FakeTorch:
    """As much of the module as the study touches; it is its own generator and its own `cuda`."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.seeds: list[int] = []
        self.default_generator = self.cuda = self

    def get_num_threads(self) -> int:
        return self.threads

    def set_num_threads(self, threads: int) -> None:
        self.threads = threads

    def manual_seed(self, seed: int) -> None:
        assert 0 <= seed < 2**63
        self.seeds.append(seed)

    def manual_seed_all(self, seed: int) -> None:
        self.seeds.append(-seed)

    def is_initialized(self) -> bool:
        return self.threads > 2

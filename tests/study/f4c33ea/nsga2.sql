PRAGMA application_id = 1752657505;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE epochs (
    name TEXT NOT NULL, epoch INTEGER NOT NULL, part TEXT NOT NULL, step INTEGER NOT NULL, result TEXT NOT NULL,
    seconds REAL NOT NULL, checkpoint TEXT, PRIMARY KEY (name, epoch)
) STRICT, WITHOUT ROWID;
CREATE TABLE evaluations (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, evaluation TEXT NOT NULL, charged INTEGER NOT NULL
) STRICT;
INSERT INTO "evaluations" VALUES(1,'54c77fbb9ee89a9b','{"architecture":{"edge01":"none","edge02":"none","edge03":"none","edge12":"none","edge13":"none","edge23":"none"},"metrics":{"accuracy":{"value":0.1,"unit":"share","origin":"measured"},"latency_ms":{"value":1.0,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":2.1833000573678873e-05}',1);
INSERT INTO "evaluations" VALUES(2,'34eb805e9d2ad312','{"architecture":{"edge01":"conv3","edge02":"conv3","edge03":"conv3","edge12":"conv3","edge13":"conv3","edge23":"conv3"},"metrics":{"accuracy":{"value":0.9347534560830821,"unit":"share","origin":"measured"},"latency_ms":{"value":12.4,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":3.251799898862373e-05}',1);
INSERT INTO "evaluations" VALUES(3,'5fbe363a23d454b1','{"architecture":{"edge01":"conv1","edge02":"conv1","edge03":"pool","edge12":"conv1","edge13":"none","edge23":"conv1"},"metrics":{"accuracy":{"value":0.9162808562640518,"unit":"share","origin":"measured"},"latency_ms":{"value":4.2,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":1.8446999092702754e-05}',1);
INSERT INTO "evaluations" VALUES(4,'39e7ad31a47b4964','{"architecture":{"edge01":"conv1","edge02":"none","edge03":"none","edge12":"none","edge13":"conv1","edge23":"pool"},"metrics":{"accuracy":{"value":0.8518726899029402,"unit":"share","origin":"measured"},"latency_ms":{"value":2.8,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":1.4220999219105579e-05}',1);
INSERT INTO "evaluations" VALUES(5,'9dde939c9e31d987','{"architecture":{"edge01":"conv3","edge02":"conv1","edge03":"conv3","edge12":"pool","edge13":"pool","edge23":"pool"},"metrics":{"accuracy":{"value":0.9312523729031809,"unit":"share","origin":"measured"},"latency_ms":{"value":6.7,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":1.583399898663629e-05}',1);
INSERT INTO "evaluations" VALUES(6,'0b39164ecd0b2b55','{"architecture":{"edge01":"pool","edge02":"none","edge03":"pool","edge12":"skip","edge13":"conv3","edge23":"skip"},"metrics":{"accuracy":{"value":0.8959298591607674,"unit":"share","origin":"measured"},"latency_ms":{"value":3.9,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":1.4831999578746036e-05}',1);
INSERT INTO "evaluations" VALUES(7,'25004bda31b9e66b','{"architecture":{"edge01":"none","edge02":"skip","edge03":"conv3","edge12":"pool","edge13":"none","edge23":"none"},"metrics":{"accuracy":{"value":0.8010960795066316,"unit":"share","origin":"measured"},"latency_ms":{"value":3.4,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":2.6410001737531275e-05}',1);
INSERT INTO "evaluations" VALUES(8,'1c51f56c1b04dfd3','{"architecture":{"edge01":"conv1","edge02":"skip","edge03":"none","edge12":"none","edge13":"skip","edge23":"pool"},"metrics":{"accuracy":{"value":0.8614855664586131,"unit":"share","origin":"measured"},"latency_ms":{"value":2.3,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":1.7635999029153027e-05}',1);
INSERT INTO "evaluations" VALUES(9,'98700dd18cadb0e6','{"architecture":{"edge01":"conv1","edge02":"conv3","edge03":"conv3","edge12":"none","edge13":"conv3","edge23":"pool"},"metrics":{"accuracy":{"value":0.9342523994351069,"unit":"share","origin":"measured"},"latency_ms":{"value":7.8,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":1.603399869054556e-05}',1);
INSERT INTO "evaluations" VALUES(10,'10391e700c1e9316','{"architecture":{"edge01":"pool","edge02":"skip","edge03":"skip","edge12":"none","edge13":"pool","edge23":"pool"},"metrics":{"accuracy":{"value":0.738951177707591,"unit":"share","origin":"measured"},"latency_ms":{"value":2.4,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":1.4280998584581539e-05}',1);
INSERT INTO "evaluations" VALUES(11,'77865b70376d6da9','{"architecture":{"edge01":"conv3","edge02":"none","edge03":"none","edge12":"none","edge13":"conv1","edge23":"conv3"},"metrics":{"accuracy":{"value":0.8962372729431317,"unit":"share","origin":"measured"},"latency_ms":{"value":5.5,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":1.2127999070798978e-05}',1);
INSERT INTO "evaluations" VALUES(12,'7af2fba8e73fef27','{"architecture":{"edge01":"conv3","edge02":"conv1","edge03":"conv3","edge12":"pool","edge13":"pool","edge23":"conv3"},"metrics":{"accuracy":{"value":0.9365999760535998,"unit":"share","origin":"measured"},"latency_ms":{"value":8.2,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":1.4160999853629619e-05}',1);
CREATE TABLE events (
    number INTEGER PRIMARY KEY, part TEXT NOT NULL, step INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL
) STRICT;
CREATE TABLE header (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO "header" VALUES('environment','{"hwnas":"0.1.0","numpy":"2.4.6","scipy":"1.17.1","scikit-learn":"1.9.1","pymoo":"0.6.2","moocore":"0.3.2","torch":"2.14.1","python":"3.11.7","machine":"Linux x86_64","cpu":"AMD EPYC"}');
INSERT INTO "header" VALUES('identity','{"space":["toy201","a431aa3e478a74e0","4f53cda18c2baa0c"],"objectives":[["accuracy","maximize","share"],["latency_ms","minimize","ms"]],"limits":[],"costs":[["latency_ms","ms","computed","toy201"]],"budget":[16,null,0.1],"seed":0,"in_flight":4,"stall":500,"threads":1}');
INSERT INTO "header" VALUES('strategy','{"name":"WithSupernet","parameters":{"strategy":{"type":"hwnas.strategies.nsga2:Nsga2","population":6,"crossover_probability":0.9,"mutations":2.0,"mutation_eta":1.0},"train":"__main__:train"},"code":"be6e9aa7404b6838"}');
INSERT INTO "header" VALUES('torch_threads','1');
CREATE TABLE steps (
    part TEXT NOT NULL, number INTEGER NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, request TEXT NOT NULL,
    result TEXT NOT NULL, seconds REAL NOT NULL, PRIMARY KEY (part, number)
) STRICT, WITHOUT ROWID;
INSERT INTO "steps" VALUES('search',1,'evaluate','full','9b8f9681f39b8ed2','["54c77fbb9ee89a9b","34eb805e9d2ad312","5fbe363a23d454b1","39e7ad31a47b4964","9dde939c9e31d987","0b39164ecd0b2b55"]',0.0);
INSERT INTO "steps" VALUES('search',2,'evaluate','full','d5d40996e520e4b5','["25004bda31b9e66b","1c51f56c1b04dfd3","98700dd18cadb0e6","10391e700c1e9316","77865b70376d6da9","7af2fba8e73fef27"]',0.0);
COMMIT;

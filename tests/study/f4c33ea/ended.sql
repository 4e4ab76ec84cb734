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
INSERT INTO "evaluations" VALUES(1,'54c77fbb9ee89a9b','{"architecture":{"edge01":"none","edge02":"none","edge03":"none","edge12":"none","edge13":"none","edge23":"none"},"metrics":{"accuracy":{"value":0.1,"unit":"share","origin":"measured"},"latency_ms":{"value":1.0,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":2.2182999600772746e-05}',1);
INSERT INTO "evaluations" VALUES(2,'34eb805e9d2ad312','{"architecture":{"edge01":"conv3","edge02":"conv3","edge03":"conv3","edge12":"conv3","edge13":"conv3","edge23":"conv3"},"metrics":{"accuracy":{"value":0.9347534560830821,"unit":"share","origin":"measured"},"latency_ms":{"value":12.4,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":2.5607998395571485e-05}',1);
INSERT INTO "evaluations" VALUES(3,'5fbe363a23d454b1','{"architecture":{"edge01":"conv1","edge02":"conv1","edge03":"pool","edge12":"conv1","edge13":"none","edge23":"conv1"},"metrics":{"accuracy":{"value":0.9162808562640518,"unit":"share","origin":"measured"},"latency_ms":{"value":4.2,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":1.4812001609243453e-05}',1);
INSERT INTO "evaluations" VALUES(4,'3290a507d6346629','{"architecture":{"edge01":"conv3","edge02":"conv3","edge03":"pool","edge12":"conv1","edge13":"conv3","edge23":"conv3"},"metrics":{"accuracy":{"value":0.9387460701813494,"unit":"share","origin":"measured"},"latency_ms":{"value":9.7,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":3.334900065965485e-05}',1);
INSERT INTO "evaluations" VALUES(5,'6cdd898b8c3dd729','{"architecture":{"edge01":"conv1","edge02":"pool","edge03":"conv3","edge12":"conv1","edge13":"conv3","edge23":"conv3"},"metrics":{"accuracy":{"value":0.9367169184619505,"unit":"share","origin":"measured"},"latency_ms":{"value":8.5,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":1.7516000298201106e-05}',1);
INSERT INTO "evaluations" VALUES(6,'7766a41464bf2422','{"architecture":{"edge01":"conv1","edge02":"pool","edge03":"conv3","edge12":"conv1","edge13":"conv3","edge23":"conv1"},"metrics":{"accuracy":{"value":0.9338356513715709,"unit":"share","origin":"measured"},"latency_ms":{"value":7.3,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":3.9669001125730574e-05}',1);
CREATE TABLE events (
    number INTEGER PRIMARY KEY, part TEXT NOT NULL, step INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL
) STRICT;
INSERT INTO "events" VALUES(1,'search',5,'end','the budget of 6 evaluations is spent');
CREATE TABLE header (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO "header" VALUES('environment','{"hwnas":"0.1.0","numpy":"2.4.6","scipy":"1.17.1","scikit-learn":"1.9.1","pymoo":"0.6.2","moocore":"0.3.2","torch":"2.14.1","python":"3.11.7","machine":"Linux x86_64","cpu":"AMD EPYC"}');
INSERT INTO "header" VALUES('identity','{"space":["toy201","a431aa3e478a74e0","4f53cda18c2baa0c"],"objectives":[["accuracy","maximize","share"],["latency_ms","minimize","ms"]],"limits":[],"costs":[["latency_ms","ms","computed","toy201"]],"budget":[6,null,0.1],"seed":0,"in_flight":4,"stall":500,"threads":1}');
INSERT INTO "header" VALUES('outcome','{"reason":"the budget of 6 evaluations is spent","evaluations":6,"seconds":0.26147501500236103}');
INSERT INTO "header" VALUES('strategy','{"name":"WithSupernet","parameters":{"strategy":{"type":"hwnas.strategies.nat:Nat","initial":4,"per_iteration":2,"population":8,"generations":2,"surrogates":["rbf","gp","trees"],"folds":10,"crossover_probability":0.9,"mutations":2.0,"mutation_eta":1.0,"adapt_epochs":0,"survivors":150},"train":"__main__:train"},"code":"12dd2d0476815561"}');
INSERT INTO "header" VALUES('torch_threads','1');
CREATE TABLE steps (
    part TEXT NOT NULL, number INTEGER NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, request TEXT NOT NULL,
    result TEXT NOT NULL, seconds REAL NOT NULL, PRIMARY KEY (part, number)
) STRICT, WITHOUT ROWID;
INSERT INTO "steps" VALUES('search',1,'evaluate','full','958c1ef160077bdf','["54c77fbb9ee89a9b","34eb805e9d2ad312","5fbe363a23d454b1"]',0.0);
INSERT INTO "steps" VALUES('search',2,'once','proposal','b77002687a0ca552','{"architectures":[{"edge01":"conv3","edge02":"conv3","edge03":"pool","edge12":"conv1","edge13":"conv3","edge23":"conv3"},{"edge01":"conv1","edge02":"pool","edge03":"conv3","edge12":"conv1","edge13":"conv3","edge23":"conv3"}],"surrogates":{"accuracy":{"winner":"rbf","scores":{}}}}',9.15126300060364883393e-03);
INSERT INTO "steps" VALUES('search',3,'evaluate','full','c48520a0e3e4b007','["3290a507d6346629","6cdd898b8c3dd729"]',0.0);
INSERT INTO "steps" VALUES('search',4,'once','proposal','b77002687a0ca552','{"architectures":[{"edge01":"conv1","edge02":"pool","edge03":"conv3","edge12":"conv1","edge13":"conv3","edge23":"conv1"},{"edge01":"pool","edge02":"skip","edge03":"skip","edge12":"conv1","edge13":"pool","edge23":"skip"}],"surrogates":{"accuracy":{"winner":"gp","scores":{"rbf":0.3333333333333334,"gp":0.816496580927726,"trees":0.0}}}}',2.52170615000068210065e-01);
COMMIT;

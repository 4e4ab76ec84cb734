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
INSERT INTO "evaluations" VALUES(1,'54c77fbb9ee89a9b','{"architecture":{"edge01":"none","edge02":"none","edge03":"none","edge12":"none","edge13":"none","edge23":"none"},"metrics":{"accuracy":{"value":0.1,"unit":"share","origin":"measured"},"latency_ms":{"value":1.0,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":1.7525999282952398e-05}',1);
INSERT INTO "evaluations" VALUES(2,'34eb805e9d2ad312','{"architecture":{"edge01":"conv3","edge02":"conv3","edge03":"conv3","edge12":"conv3","edge13":"conv3","edge23":"conv3"},"metrics":{"accuracy":{"value":0.9347534560830821,"unit":"share","origin":"measured"},"latency_ms":{"value":12.4,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":2.3494998458772898e-05}',1);
INSERT INTO "evaluations" VALUES(3,'5fbe363a23d454b1','{"architecture":{"edge01":"conv1","edge02":"conv1","edge03":"pool","edge12":"conv1","edge13":"none","edge23":"conv1"},"metrics":{"accuracy":{"value":0.9162808562640518,"unit":"share","origin":"measured"},"latency_ms":{"value":4.2,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":1.4811999790254049e-05}',1);
INSERT INTO "evaluations" VALUES(4,'39e7ad31a47b4964','{"architecture":{"edge01":"conv1","edge02":"none","edge03":"none","edge12":"none","edge13":"conv1","edge23":"pool"},"metrics":{"accuracy":{"value":0.8518726899029402,"unit":"share","origin":"measured"},"latency_ms":{"value":2.8,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":1.2047001291648485e-05}',1);
INSERT INTO "evaluations" VALUES(5,'9dde939c9e31d987','{"architecture":{"edge01":"conv3","edge02":"conv1","edge03":"conv3","edge12":"pool","edge13":"pool","edge23":"pool"},"metrics":{"accuracy":{"value":0.9312523729031809,"unit":"share","origin":"measured"},"latency_ms":{"value":6.7,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":1.8017000911640935e-05}',1);
INSERT INTO "evaluations" VALUES(6,'0b39164ecd0b2b55','{"architecture":{"edge01":"pool","edge02":"none","edge03":"pool","edge12":"skip","edge13":"conv3","edge23":"skip"},"metrics":{"accuracy":{"value":0.8959298591607674,"unit":"share","origin":"measured"},"latency_ms":{"value":3.9,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":1.3749999197898433e-05}',1);
INSERT INTO "evaluations" VALUES(7,'6aac366559f3a740','{"architecture":{"edge01":"pool","edge02":"skip","edge03":"conv3","edge12":"pool","edge13":"skip","edge23":"conv3"},"metrics":{"accuracy":{"value":0.9240288738768021,"unit":"share","origin":"measured"},"latency_ms":{"value":5.8,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":4.2001998735941015e-05}',1);
INSERT INTO "evaluations" VALUES(8,'0426853b211ea84c','{"architecture":{"edge01":"skip","edge02":"none","edge03":"none","edge12":"conv1","edge13":"none","edge23":"none"},"metrics":{"accuracy":{"value":0.1,"unit":"share","origin":"measured"},"latency_ms":{"value":1.8,"unit":"ms","origin":"computed"}},"status":"ok","reason":"","fidelity":"full","weights":null,"seconds":1.1497000741655938e-05}',1);
CREATE TABLE events (
    number INTEGER PRIMARY KEY, part TEXT NOT NULL, step INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL
) STRICT;
CREATE TABLE header (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO "header" VALUES('environment','{"hwnas":"0.1.0","numpy":"2.4.6","scipy":"1.17.1","scikit-learn":"1.9.1","pymoo":"0.6.2","moocore":"0.3.2","torch":"2.14.1","python":"3.11.7","machine":"Linux x86_64","cpu":"AMD EPYC"}');
INSERT INTO "header" VALUES('identity','{"space":["toy201","a431aa3e478a74e0","4f53cda18c2baa0c"],"objectives":[["accuracy","maximize","share"],["latency_ms","minimize","ms"]],"limits":[],"costs":[["latency_ms","ms","computed","toy201"]],"budget":[16,null,0.1],"seed":0,"in_flight":4,"stall":500,"threads":1}');
INSERT INTO "header" VALUES('strategy','{"name":"WithSupernet","parameters":{"strategy":{"type":"hwnas.strategies.nat:Nat","initial":6,"per_iteration":2,"population":8,"generations":2,"surrogates":["rbf","gp","trees"],"folds":10,"crossover_probability":0.9,"mutations":2.0,"mutation_eta":1.0,"adapt_epochs":0,"survivors":150},"train":"__main__:train"},"code":"12dd2d0476815561"}');
INSERT INTO "header" VALUES('torch_threads','1');
CREATE TABLE steps (
    part TEXT NOT NULL, number INTEGER NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, request TEXT NOT NULL,
    result TEXT NOT NULL, seconds REAL NOT NULL, PRIMARY KEY (part, number)
) STRICT, WITHOUT ROWID;
INSERT INTO "steps" VALUES('search',1,'evaluate','full','9b8f9681f39b8ed2','["54c77fbb9ee89a9b","34eb805e9d2ad312","5fbe363a23d454b1","39e7ad31a47b4964","9dde939c9e31d987","0b39164ecd0b2b55"]',0.0);
INSERT INTO "steps" VALUES('search',2,'once','proposal','b77002687a0ca552','{"architectures":[{"edge01":"pool","edge02":"skip","edge03":"conv3","edge12":"pool","edge13":"skip","edge23":"conv3"},{"edge01":"skip","edge02":"none","edge03":"none","edge12":"conv1","edge13":"none","edge23":"none"}],"surrogates":{"accuracy":{"winner":"trees","scores":{"rbf":-0.6094757082487301,"gp":-0.6094757082487301,"trees":1.0}}}}',4.57802398001149413175e-01);
INSERT INTO "steps" VALUES('search',3,'evaluate','full','b04c4d3cd483dff9','["6aac366559f3a740","0426853b211ea84c"]',0.0);
COMMIT;

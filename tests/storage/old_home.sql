BEGIN TRANSACTION;
CREATE TABLE audit (id integer primary key, at text not null, who text not null, action text not null, about text not null);
INSERT INTO "audit" VALUES(1,'2026-11-27T09:01:40.000+00:00','owner','set gate_prompts','default → 40');
INSERT INTO "audit" VALUES(2,'2026-11-27T09:01:41.000+00:00','owner','promote','v1');
CREATE TABLE calibrations (
  id integer primary key,
  judge text not null,
  report text not null,
  created_at text not null
);
INSERT INTO "calibrations" VALUES(1,'tess','{"agreement": 0.75, "n": 12}','2026-11-27T09:01:43.000+00:00');
CREATE TABLE calls (
  hash text primary key,
  teacher text not null,
  request text not null,
  text text not null,
  status text not null check (status in ('finished', 'cut')),
  logprobs text,
  prompt_tokens integer not null,
  completion_tokens integer not null,
  cost real not null,
  seconds real not null,
  created_at text not null
);
INSERT INTO "calls" VALUES('f00d','tess','{"messages": [{"role": "user", "content": "How do tides work?"}], "max_tokens": 40}','By the Moon.','finished','[-0.1]',9,4,0.001,0.5,'2026-11-27T09:01:42.000+00:00');
CREATE TABLE checkpoints (
  id integer primary key,
  version integer unique,
  parent_id integer references checkpoints(id),
  round_id integer references rounds(id),
  status text not null check (status in ('candidate', 'serving', 'retired', 'rejected')),
  path text,
  method text,
  seed integer,
  metrics text not null default '{}',
  created_at text not null,
  promoted_at text,
  pruned_at text
);
INSERT INTO "checkpoints" VALUES(1,0,NULL,NULL,'retired',NULL,NULL,NULL,'{"student":"tiny"}','2026-11-27T09:00:00.000+00:00','2026-11-27T09:00:01.000+00:00',NULL);
INSERT INTO "checkpoints" VALUES(2,1,1,1,'serving','checkpoints/000001','dpo',1,'{"nll": 2.25, "student": "tiny"}','2026-11-27T09:01:17.000+00:00','2026-11-27T09:01:18.000+00:00',NULL);
INSERT INTO "checkpoints" VALUES(3,NULL,2,2,'rejected','checkpoints/000002','dpo',2,'{"nll": 2.25, "student": "tiny"}','2026-11-27T09:01:34.000+00:00',NULL,NULL);
CREATE TABLE choices (name text primary key, value text not null, at text not null, who text not null);
INSERT INTO "choices" VALUES('gate_prompts','40','2026-11-27T09:01:39.000+00:00','owner');
CREATE TABLE completions (
  id text primary key,
  turn_id text not null references turns(id) on delete cascade,
  author text not null check (author in ('student', 'teacher', 'human')),
  name text not null default '',
  checkpoint_id integer references checkpoints(id),
  text text not null default '',
  status text not null check (status in ('open', 'finished', 'cut', 'stopped', 'failed')),
  sampling text not null default '{}',
  prompt_tokens integer,
  completion_tokens integer,
  first_token_seconds real,
  seconds real,
  licence text not null default '',
  created_at text not null, restricted integer not null default 0 check (restricted in (0, 1)), logprob real,
  check (author <> 'student' or checkpoint_id is not null)
);
INSERT INTO "completions" VALUES('000000000000000000000003','000000000000000000000002','student','',1,'Etwa 0 Meter.','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:04.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('000000000000000000000004','000000000000000000000002','student','',1,'ПРИМЕРНО 0 m','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:05.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('000000000000000000000008','000000000000000000000007','student','',1,'Etwa 1 Meter.','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:09.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('000000000000000000000009','000000000000000000000007','student','',1,'ПРИМЕРНО 1 m','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:10.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('00000000000000000000000d','00000000000000000000000c','student','',1,'Etwa 2 Meter.','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:14.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('00000000000000000000000e','00000000000000000000000c','student','',1,'ПРИМЕРНО 2 m','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:15.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('000000000000000000000012','000000000000000000000011','student','',1,'Etwa 3 Meter.','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:19.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('000000000000000000000013','000000000000000000000011','student','',1,'ПРИМЕРНО 3 m','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:20.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('000000000000000000000017','000000000000000000000016','student','',1,'Etwa 4 Meter.','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:24.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('000000000000000000000018','000000000000000000000016','student','',1,'ПРИМЕРНО 4 m','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:25.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('00000000000000000000001c','00000000000000000000001b','student','',1,'Etwa 5 Meter.','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:29.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('00000000000000000000001d','00000000000000000000001b','student','',1,'ПРИМЕРНО 5 m','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:30.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('000000000000000000000021','000000000000000000000020','student','',1,'Etwa 6 Meter.','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:34.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('000000000000000000000022','000000000000000000000020','student','',1,'ПРИМЕРНО 6 m','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:35.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('000000000000000000000026','000000000000000000000025','student','',1,'Etwa 7 Meter.','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:39.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('000000000000000000000027','000000000000000000000025','student','',1,'ПРИМЕРНО 7 m','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:40.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('00000000000000000000002b','00000000000000000000002a','student','',1,'Etwa 8 Meter.','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:44.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('00000000000000000000002c','00000000000000000000002a','student','',1,'ПРИМЕРНО 8 m','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:45.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('000000000000000000000030','00000000000000000000002f','student','',1,'Etwa 9 Meter.','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:49.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('000000000000000000000031','00000000000000000000002f','student','',1,'ПРИМЕРНО 9 m','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:50.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('000000000000000000000035','000000000000000000000034','student','',1,'Etwa 10 Meter.','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:54.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('000000000000000000000036','000000000000000000000034','student','',1,'ПРИМЕРНО 10 m','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:55.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('00000000000000000000003a','000000000000000000000039','student','',1,'Etwa 11 Meter.','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:00:59.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('00000000000000000000003b','000000000000000000000039','student','',1,'ПРИМЕРНО 11 m','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:01:00.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('00000000000000000000003f','000000000000000000000039','human','Zoë',NULL,'Elf Meter,
"ungefähr".','finished','{}',NULL,NULL,NULL,NULL,'','2026-11-27T09:01:05.000+00:00',0,NULL);
INSERT INTO "completions" VALUES('000000000000000000000042','000000000000000000000039','student','',1,'','failed','{}',NULL,NULL,NULL,NULL,'','2026-11-27T09:01:08.000+00:00',0,NULL);
INSERT INTO "completions" VALUES('000000000000000000000043','000000000000000000000039','teacher','tess',NULL,'11 m','cut','{}',NULL,NULL,NULL,NULL,'Apache-2.0','2026-11-27T09:01:09.000+00:00',1,NULL);
INSERT INTO "completions" VALUES('000000000000000000000046','000000000000000000000045','student','',1,'one','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:01:12.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('000000000000000000000047','000000000000000000000045','student','',1,'two','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:01:13.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('00000000000000000000004a','000000000000000000000049','student','',2,'300,000 km per second.','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:01:22.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('00000000000000000000004b','000000000000000000000049','student','',1,'Fast.','finished','{}',NULL,NULL,NULL,NULL,'','2026-11-27T09:01:23.000+00:00',0,NULL);
INSERT INTO "completions" VALUES('00000000000000000000004f','00000000000000000000004e','student','',2,'By the Moon.','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:01:27.000+00:00',0,-0.5);
INSERT INTO "completions" VALUES('000000000000000000000050','00000000000000000000004e','student','',2,'By the wind.','finished','{"temperature": 0.7}',NULL,NULL,NULL,NULL,'','2026-11-27T09:01:28.000+00:00',0,-0.5);
CREATE TABLE conversations (
  id text primary key,
  person text not null,
  title text not null default '',
  created_at text not null
, kind text not null default 'chat' check (kind in ('chat', 'duel')), held_out integer check (held_out in (0, 1)), place integer);
INSERT INTO "conversations" VALUES('000000000000000000000001','ann','Wie groß ist Nummer 0?','2026-11-27T09:00:02.000+00:00','chat',0,1);
INSERT INTO "conversations" VALUES('000000000000000000000006','bob','Wie groß ist Nummer 1?','2026-11-27T09:00:07.000+00:00','chat',0,2);
INSERT INTO "conversations" VALUES('00000000000000000000000b','Zoë','Wie groß ist Nummer 2?','2026-11-27T09:00:12.000+00:00','chat',0,3);
INSERT INTO "conversations" VALUES('000000000000000000000010','ann','Wie groß ist Nummer 3?','2026-11-27T09:00:17.000+00:00','chat',0,4);
INSERT INTO "conversations" VALUES('000000000000000000000015','bob','Wie groß ist Nummer 4?','2026-11-27T09:00:22.000+00:00','chat',1,5);
INSERT INTO "conversations" VALUES('00000000000000000000001a','Zoë','Wie groß ist Nummer 5?','2026-11-27T09:00:27.000+00:00','chat',0,6);
INSERT INTO "conversations" VALUES('00000000000000000000001f','ann','Wie groß ist Nummer 6?','2026-11-27T09:00:32.000+00:00','chat',0,7);
INSERT INTO "conversations" VALUES('000000000000000000000024','bob','Wie groß ist Nummer 7?','2026-11-27T09:00:37.000+00:00','chat',0,8);
INSERT INTO "conversations" VALUES('000000000000000000000029','Zoë','Wie groß ist Nummer 8?','2026-11-27T09:00:42.000+00:00','chat',0,9);
INSERT INTO "conversations" VALUES('00000000000000000000002e','ann','Wie groß ist Nummer 9?','2026-11-27T09:00:47.000+00:00','chat',1,10);
INSERT INTO "conversations" VALUES('000000000000000000000033','bob','Wie groß ist Nummer 10?','2026-11-27T09:00:52.000+00:00','chat',0,11);
INSERT INTO "conversations" VALUES('000000000000000000000038','Zoë','Wie groß ist Nummer 11?','2026-11-27T09:00:57.000+00:00','chat',0,12);
INSERT INTO "conversations" VALUES('000000000000000000000044','bob','Which is better?','2026-11-27T09:01:10.000+00:00','duel',NULL,NULL);
INSERT INTO "conversations" VALUES('000000000000000000000048','bob','How fast is light?','2026-11-27T09:01:20.000+00:00','chat',0,13);
INSERT INTO "conversations" VALUES('00000000000000000000004d','round 2','How do tides work?','2026-11-27T09:01:25.000+00:00','chat',0,14);
CREATE TABLE duel_counts (
  chosen_by integer not null,
  rejected_by integer not null,
  score real not null,
  n integer not null,
  primary key (chosen_by, rejected_by, score)
) without rowid;
INSERT INTO "duel_counts" VALUES(2,1,1.0,1);
CREATE TABLE feedback (
  id text primary key,
  turn_id text not null references turns(id) on delete cascade,
  chosen_id text references completions(id) on delete cascade,
  rejected_id text references completions(id) on delete cascade,
  score real check (score between 0 and 1),
  channel text not null check (channel in ('thumb', 'stars', 'choice', 'edit', 'critique', 'ranking')),
  aspect text not null default 'overall',
  reason text not null default '',
  critique text not null default '',
  source text not null check (source in ('human', 'teacher', 'judge', 'verifier', 'preference_model', 'student')),
  rater text not null,
  round_id integer references rounds(id),
  created_at text not null,
  retracted_at text, used integer not null default 0, chosen_by integer, rejected_by integer, disputed integer not null default 0, seen_by integer,
  check (chosen_id is not null or rejected_id is not null),
  check (chosen_id is not rejected_id)
);
INSERT INTO "feedback" VALUES('000000000000000000000005','000000000000000000000002','000000000000000000000003','000000000000000000000004',NULL,'choice','overall','','','human','ann',NULL,'2026-11-27T09:00:06.000+00:00',NULL,1,1,1,0,1);
INSERT INTO "feedback" VALUES('00000000000000000000000a','000000000000000000000007','000000000000000000000009',NULL,NULL,'thumb','overall','','','human','bob',NULL,'2026-11-27T09:00:11.000+00:00',NULL,1,1,NULL,0,1);
INSERT INTO "feedback" VALUES('00000000000000000000000f','00000000000000000000000c','00000000000000000000000e',NULL,NULL,'thumb','overall','','','human','Zoë',NULL,'2026-11-27T09:00:16.000+00:00',NULL,1,1,NULL,0,1);
INSERT INTO "feedback" VALUES('000000000000000000000014','000000000000000000000011','000000000000000000000013',NULL,NULL,'thumb','overall','','','human','ann',NULL,'2026-11-27T09:00:21.000+00:00',NULL,1,1,NULL,0,1);
INSERT INTO "feedback" VALUES('000000000000000000000019','000000000000000000000016','000000000000000000000017','000000000000000000000018',NULL,'choice','overall','','','human','bob',NULL,'2026-11-27T09:00:26.000+00:00',NULL,1,1,1,0,1);
INSERT INTO "feedback" VALUES('00000000000000000000001e','00000000000000000000001b','00000000000000000000001d',NULL,NULL,'thumb','overall','','','human','Zoë',NULL,'2026-11-27T09:00:31.000+00:00',NULL,1,1,NULL,0,1);
INSERT INTO "feedback" VALUES('000000000000000000000023','000000000000000000000020','000000000000000000000022',NULL,NULL,'thumb','overall','','','human','ann',NULL,'2026-11-27T09:00:36.000+00:00',NULL,1,1,NULL,0,1);
INSERT INTO "feedback" VALUES('000000000000000000000028','000000000000000000000025','000000000000000000000027',NULL,NULL,'thumb','overall','','','human','bob',NULL,'2026-11-27T09:00:41.000+00:00',NULL,1,1,NULL,0,1);
INSERT INTO "feedback" VALUES('00000000000000000000002d','00000000000000000000002a','00000000000000000000002b','00000000000000000000002c',NULL,'choice','overall','','','human','Zoë',NULL,'2026-11-27T09:00:46.000+00:00',NULL,1,1,1,0,1);
INSERT INTO "feedback" VALUES('000000000000000000000032','00000000000000000000002f','000000000000000000000031',NULL,NULL,'thumb','overall','','','human','ann',NULL,'2026-11-27T09:00:51.000+00:00',NULL,1,1,NULL,0,1);
INSERT INTO "feedback" VALUES('000000000000000000000037','000000000000000000000034','000000000000000000000036',NULL,NULL,'thumb','overall','','','human','bob',NULL,'2026-11-27T09:00:56.000+00:00',NULL,1,1,NULL,0,1);
INSERT INTO "feedback" VALUES('00000000000000000000003c','000000000000000000000039','00000000000000000000003b',NULL,NULL,'thumb','overall','','','human','Zoë',NULL,'2026-11-27T09:01:01.000+00:00','2026-11-27T09:01:02.000+00:00',1,1,NULL,0,1);
INSERT INTO "feedback" VALUES('00000000000000000000003d','000000000000000000000039',NULL,'00000000000000000000003b',NULL,'thumb','overall','','','human','Zoë',NULL,'2026-11-27T09:01:03.000+00:00',NULL,1,NULL,1,0,1);
INSERT INTO "feedback" VALUES('00000000000000000000003e','000000000000000000000039','00000000000000000000003a',NULL,0.75,'stars','honesty','','','human','Zoë',NULL,'2026-11-27T09:01:04.000+00:00',NULL,1,1,NULL,0,1);
INSERT INTO "feedback" VALUES('000000000000000000000040','000000000000000000000039','00000000000000000000003f','00000000000000000000003a',NULL,'edit','overall','','','human','Zoë',NULL,'2026-11-27T09:01:06.000+00:00',NULL,1,NULL,1,0,1);
INSERT INTO "feedback" VALUES('000000000000000000000041','000000000000000000000039',NULL,'00000000000000000000003b',NULL,'critique','overall','wrong','Wrong.','human','Zoë',NULL,'2026-11-27T09:01:07.000+00:00',NULL,1,NULL,1,0,1);
INSERT INTO "feedback" VALUES('00000000000000000000004c','000000000000000000000049','00000000000000000000004a','00000000000000000000004b',NULL,'choice','overall','','','human','bob',NULL,'2026-11-27T09:01:24.000+00:00',NULL,1,2,1,0,2);
INSERT INTO "feedback" VALUES('000000000000000000000051','00000000000000000000004e','00000000000000000000004f','000000000000000000000050',0.8,'ranking','overall','','','judge','tess',1,'2026-11-27T09:01:29.000+00:00',NULL,1,2,2,1,2);
INSERT INTO "feedback" VALUES('000000000000000000000052','00000000000000000000004e','000000000000000000000050','00000000000000000000004f',NULL,'choice','overall','','','human','bob',NULL,'2026-11-27T09:01:30.000+00:00',NULL,1,2,2,0,2);
CREATE TABLE lease (
  id integer primary key check (id = 1),
  owner text not null,
  round_id integer references rounds(id),
  beat real not null
, boot text not null default '', tick real not null default 0);
CREATE TABLE progress (
  id integer primary key,
  round_id integer not null references rounds(id) on delete cascade,
  at text not null,
  phase text not null,
  step integer not null,
  steps integer not null,
  loss real,
  eta_seconds real,
  note text not null default ''
);
INSERT INTO "progress" VALUES(1,1,'2026-11-27T09:01:15.000+00:00','train',3,8,0.69,2.5,'pairs of the student');
INSERT INTO "progress" VALUES(2,2,'2026-11-27T09:01:32.000+00:00','train',3,8,0.69,2.5,'pairs of the student');
CREATE TABLE rater_counts (
  person text primary key,
  live integer not null,
  last text not null
) without rowid;
INSERT INTO "rater_counts" VALUES('Zoë',7,'2026-11-27T09:01:07.000+00:00');
INSERT INTO "rater_counts" VALUES('ann',4,'2026-11-27T09:00:51.000+00:00');
INSERT INTO "rater_counts" VALUES('bob',6,'2026-11-27T09:01:30.000+00:00');
CREATE TABLE raters (person text primary key, weight real not null check (weight between 0 and 1), changed_at text not null) without rowid;
INSERT INTO "raters" VALUES('bob',0.5,'2026-11-27T09:01:38.000+00:00');
CREATE TABLE round_feedback (
  round_id integer not null references rounds(id) on delete cascade,
  feedback_id text not null references feedback(id) on delete cascade,
  part text not null check (part in ('train', 'held_out')),
  primary key (round_id, feedback_id)
) without rowid;
INSERT INTO "round_feedback" VALUES(1,'000000000000000000000005','train');
INSERT INTO "round_feedback" VALUES(1,'00000000000000000000000a','train');
INSERT INTO "round_feedback" VALUES(1,'00000000000000000000000f','train');
INSERT INTO "round_feedback" VALUES(1,'000000000000000000000014','train');
INSERT INTO "round_feedback" VALUES(1,'000000000000000000000019','train');
INSERT INTO "round_feedback" VALUES(1,'00000000000000000000001e','train');
INSERT INTO "round_feedback" VALUES(1,'000000000000000000000023','train');
INSERT INTO "round_feedback" VALUES(1,'000000000000000000000028','train');
INSERT INTO "round_feedback" VALUES(1,'00000000000000000000002d','train');
INSERT INTO "round_feedback" VALUES(1,'000000000000000000000032','train');
INSERT INTO "round_feedback" VALUES(1,'000000000000000000000037','train');
INSERT INTO "round_feedback" VALUES(1,'00000000000000000000003c','held_out');
INSERT INTO "round_feedback" VALUES(2,'000000000000000000000019','train');
INSERT INTO "round_feedback" VALUES(2,'00000000000000000000001e','train');
INSERT INTO "round_feedback" VALUES(2,'000000000000000000000023','train');
INSERT INTO "round_feedback" VALUES(2,'000000000000000000000028','train');
INSERT INTO "round_feedback" VALUES(2,'00000000000000000000002d','train');
INSERT INTO "round_feedback" VALUES(2,'000000000000000000000032','train');
INSERT INTO "round_feedback" VALUES(2,'000000000000000000000037','train');
INSERT INTO "round_feedback" VALUES(2,'00000000000000000000003c','held_out');
CREATE TABLE rounds (
  id integer primary key,
  status text not null check (status in ('queued', 'eliciting', 'training', 'gating',
                                         'promoted', 'rejected', 'failed', 'cancelled')),
  requested text not null,
  method text,
  why text not null default '',
  base_id integer not null references checkpoints(id),
  candidate_id integer references checkpoints(id),
  seed integer not null,
  started_by text not null,
  counts text not null default '{}',
  seconds text not null default '{}',
  metrics text not null default '{}',
  verdict text,
  error text,
  created_at text not null,
  finished_at text,
  cancel_requested_at text
, recipe text not null default '{}');
INSERT INTO "rounds" VALUES(1,'promoted','auto','dpo','pairs',1,2,1,'hand','{"pairs": 4}','{"train": 1.5}','{}','{"passed": true, "reason": "Promoted: 9 wins", "win_rate": 0.75, "interval": [0.5, 0.9], "n": 12, "examples": [{"prompt": "Why?", "before": "", "after": "So."}]}',NULL,'2026-11-27T09:01:14.000+00:00','2026-11-27T09:01:19.000+00:00',NULL,'{"method": "dpo"}');
INSERT INTO "rounds" VALUES(2,'rejected','auto','dpo','pairs',2,3,2,'hand','{"pairs": 4}','{"train": 1.5}','{}','{"passed": true, "reason": "Promoted: 9 wins", "win_rate": 0.75, "interval": [0.5, 0.9], "n": 12, "examples": [{"prompt": "Why?", "before": "", "after": "So."}]}',NULL,'2026-11-27T09:01:31.000+00:00','2026-11-27T09:01:35.000+00:00',NULL,'{"method": "dpo"}');
INSERT INTO "rounds" VALUES(3,'failed','kto',NULL,'',2,NULL,7,'votes','{}','{}','{}',NULL,'out of memory','2026-11-27T09:01:36.000+00:00','2026-11-27T09:01:37.000+00:00',NULL,'{}');
CREATE TABLE turns (
  id text primary key,
  conversation_id text not null references conversations(id) on delete cascade,
  position integer not null,
  prompt text not null check (json_array_length(prompt) > 0),
  created_at text not null,
  unique (conversation_id, position)
);
INSERT INTO "turns" VALUES('000000000000000000000002','000000000000000000000001',0,'[{"role": "user", "content": "Wie groß ist Nummer 0?"}]','2026-11-27T09:00:03.000+00:00');
INSERT INTO "turns" VALUES('000000000000000000000007','000000000000000000000006',0,'[{"role": "user", "content": "Wie groß ist Nummer 1?"}]','2026-11-27T09:00:08.000+00:00');
INSERT INTO "turns" VALUES('00000000000000000000000c','00000000000000000000000b',0,'[{"role": "user", "content": "Wie groß ist Nummer 2?"}]','2026-11-27T09:00:13.000+00:00');
INSERT INTO "turns" VALUES('000000000000000000000011','000000000000000000000010',0,'[{"role": "user", "content": "Wie groß ist Nummer 3?"}]','2026-11-27T09:00:18.000+00:00');
INSERT INTO "turns" VALUES('000000000000000000000016','000000000000000000000015',0,'[{"role": "user", "content": "Wie groß ist Nummer 4?"}]','2026-11-27T09:00:23.000+00:00');
INSERT INTO "turns" VALUES('00000000000000000000001b','00000000000000000000001a',0,'[{"role": "user", "content": "Wie groß ist Nummer 5?"}]','2026-11-27T09:00:28.000+00:00');
INSERT INTO "turns" VALUES('000000000000000000000020','00000000000000000000001f',0,'[{"role": "user", "content": "Wie groß ist Nummer 6?"}]','2026-11-27T09:00:33.000+00:00');
INSERT INTO "turns" VALUES('000000000000000000000025','000000000000000000000024',0,'[{"role": "user", "content": "Wie groß ist Nummer 7?"}]','2026-11-27T09:00:38.000+00:00');
INSERT INTO "turns" VALUES('00000000000000000000002a','000000000000000000000029',0,'[{"role": "user", "content": "Wie groß ist Nummer 8?"}]','2026-11-27T09:00:43.000+00:00');
INSERT INTO "turns" VALUES('00000000000000000000002f','00000000000000000000002e',0,'[{"role": "user", "content": "Wie groß ist Nummer 9?"}]','2026-11-27T09:00:48.000+00:00');
INSERT INTO "turns" VALUES('000000000000000000000034','000000000000000000000033',0,'[{"role": "user", "content": "Wie groß ist Nummer 10?"}]','2026-11-27T09:00:53.000+00:00');
INSERT INTO "turns" VALUES('000000000000000000000039','000000000000000000000038',0,'[{"role": "user", "content": "Wie groß ist Nummer 11?"}]','2026-11-27T09:00:58.000+00:00');
INSERT INTO "turns" VALUES('000000000000000000000045','000000000000000000000044',0,'[{"role": "user", "content": "Which is better?"}]','2026-11-27T09:01:11.000+00:00');
INSERT INTO "turns" VALUES('000000000000000000000049','000000000000000000000048',0,'[{"role": "user", "content": "How fast is light?"}]','2026-11-27T09:01:21.000+00:00');
INSERT INTO "turns" VALUES('00000000000000000000004e','00000000000000000000004d',0,'[{"role": "user", "content": "How do tides work?"}]','2026-11-27T09:01:26.000+00:00');
CREATE TABLE vote_counts (
  hour text primary key,
  live integer not null,
  fresh integer not null
) without rowid;
INSERT INTO "vote_counts" VALUES('2026-11-27T09',17,0);
CREATE UNIQUE INDEX one_serving on checkpoints(status) where status = 'serving';
CREATE INDEX completions_turn on completions(turn_id, created_at);
CREATE INDEX feedback_turn on feedback(turn_id);
CREATE INDEX round_feedback_row on round_feedback(feedback_id);
CREATE INDEX progress_round on progress(round_id, id);
CREATE INDEX calls_teacher on calls(teacher);
CREATE INDEX feedback_rater on feedback(rater);
CREATE INDEX feedback_chosen on feedback(chosen_id);
CREATE INDEX feedback_rejected on feedback(rejected_id);
CREATE INDEX completions_open on completions(status) where status = 'open';
CREATE INDEX rounds_status on rounds(status);
CREATE TRIGGER feedback_authors after insert on feedback begin
  update feedback set
    chosen_by = (select checkpoint_id from completions where id = new.chosen_id),
    rejected_by = (select checkpoint_id from completions where id = new.rejected_id)
  where id = new.id;
end;
CREATE TRIGGER vote_added after insert on feedback when new.source = 'human' and new.retracted_at is null begin
  insert into vote_counts values (substr(new.created_at, 1, 13), 1, 1)
    on conflict (hour) do update set live = live + 1, fresh = fresh + 1;
end;
CREATE TRIGGER vote_changed after update of used, retracted_at on feedback when new.source = 'human' begin
  update vote_counts set
    live = live + (new.retracted_at is null) - (old.retracted_at is null),
    fresh = fresh + (new.retracted_at is null and not new.used) - (old.retracted_at is null and not old.used)
  where hour = substr(new.created_at, 1, 13);
end;
CREATE TRIGGER vote_erased after delete on feedback when old.source = 'human' and old.retracted_at is null begin
  update vote_counts set live = live - 1, fresh = fresh - (not old.used) where hour = substr(old.created_at, 1, 13);
end;
CREATE TRIGGER duel_added after update of rejected_by on feedback
  when new.channel = 'choice' and new.source = 'human' and new.retracted_at is null and old.rejected_by is null
    and new.chosen_by <> new.rejected_by begin
  insert into duel_counts values (new.chosen_by, new.rejected_by, coalesce(new.score, 1), 1)
    on conflict (chosen_by, rejected_by, score) do update set n = n + 1;
end;
CREATE TRIGGER duel_retracted after update of retracted_at on feedback
  when new.channel = 'choice' and new.source = 'human' and new.chosen_by <> new.rejected_by
    and old.retracted_at is null and new.retracted_at is not null begin
  update duel_counts set n = n - 1 where chosen_by = new.chosen_by and rejected_by = new.rejected_by
    and score = coalesce(new.score, 1);
end;
CREATE TRIGGER duel_erased after delete on feedback
  when old.channel = 'choice' and old.source = 'human' and old.chosen_by <> old.rejected_by
    and old.retracted_at is null begin
  update duel_counts set n = n - 1 where chosen_by = old.chosen_by and rejected_by = old.rejected_by
    and score = coalesce(old.score, 1);
end;
CREATE INDEX completions_written on completions(name) where author = 'human';
CREATE INDEX feedback_unsure on feedback(disputed desc, abs(coalesce(score, 1) - 0.5), id)
  where source <> 'human' and retracted_at is null;
CREATE TRIGGER dispute_added after insert on feedback
  when new.source = 'human' and new.score is null and new.retracted_at is null and new.chosen_id is not null begin
  update feedback set disputed = disputed + 1 where rejected_id = new.chosen_id and source <> 'human';
end;
CREATE TRIGGER dispute_retracted after update of retracted_at on feedback
  when new.source = 'human' and new.score is null and old.retracted_at is null and new.retracted_at is not null begin
  update feedback set disputed = disputed - 1 where rejected_id = new.chosen_id and source <> 'human';
end;
CREATE TRIGGER dispute_erased after delete on feedback
  when old.source = 'human' and old.score is null and old.retracted_at is null and old.chosen_id is not null begin
  update feedback set disputed = disputed - 1 where rejected_id = old.chosen_id and source <> 'human';
end;
CREATE INDEX rater_counts_live on rater_counts(live);
CREATE TRIGGER rater_voted after insert on feedback when new.source = 'human' and new.retracted_at is null begin
  insert into rater_counts values (new.rater, 1, new.created_at)
    on conflict (person) do update set live = live + 1, last = max(last, new.created_at);
end;
CREATE TRIGGER rater_retracted after update of retracted_at on feedback
  when new.source = 'human' and old.retracted_at is null and new.retracted_at is not null begin
  update rater_counts set live = live - 1 where person = new.rater;
  delete from rater_counts where person = new.rater and live = 0;
end;
CREATE TRIGGER rater_erased after delete on feedback when old.source = 'human' and old.retracted_at is null begin
  update rater_counts set live = live - 1 where person = old.rater;
  delete from rater_counts where person = old.rater and live = 0;
end;
CREATE UNIQUE INDEX conversations_place on conversations(place) where place is not null;
CREATE TRIGGER conversation_placed after insert on feedback
  when exists (select 1 from turns t join conversations v on v.id = t.conversation_id
    where t.id = new.turn_id and v.held_out is null)
begin
  update conversations set place = 1 + coalesce((select max(place) from conversations where place is not null), 0)
    where id = (select conversation_id from turns where id = new.turn_id);
  update conversations set held_out = place % 5 = 0
    where id = (select conversation_id from turns where id = new.turn_id);
end;
CREATE INDEX feedback_fresh on feedback(used) where used = 0;
CREATE TRIGGER round_begins after insert on rounds begin
  update feedback set seen_by = new.id where used = 0;
end;
CREATE INDEX feedback_live on feedback(source) where retracted_at is null;
CREATE INDEX feedback_round on feedback(round_id) where round_id is not null and retracted_at is null;
CREATE INDEX conversations_person on conversations(person);
CREATE TRIGGER round_uses_feedback after update of status on rounds when new.status in ('promoted', 'rejected') and new.candidate_id is not null begin update feedback set used = 1 where used = 0 and seen_by = new.id; end;
COMMIT;
pragma user_version = 14;

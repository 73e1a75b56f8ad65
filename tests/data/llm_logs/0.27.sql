-- What llm 0.27 wrote: its logs.db without the tables that nobody reads here.
CREATE TABLE "conversations" ( "id" TEXT PRIMARY KEY, "name" TEXT, "model" TEXT );
INSERT INTO conversations VALUES ('01m8q0d3jdc71pz1pnazbq4n5j', 'When do you open?', 'bot');
INSERT INTO conversations VALUES ('01m8q0d3k7wjgrx5ckeeknk76c', '我要退货，怎么办？', 'bot');
INSERT INTO conversations VALUES ('01m8q0d3knmtjz03z57exe97xx', 'Which version?', 'bot');
INSERT INTO conversations VALUES ('01m8q0d3nny31gj5qkt5ndef8q', 'Delivery to Köln takes two days…', 'bot');
INSERT INTO conversations VALUES ('01m8q0d3q4t4xpbhzq1rkatkz9', 'What is this?', 'bot');
INSERT INTO conversations VALUES ('01m8q0d3qjpsg3y3vbfd77k9tt', 'Say something.', 'bot');
CREATE TABLE "attachments" ( "id" TEXT PRIMARY KEY, "type" TEXT, "path" TEXT, "url" TEXT, "content" BLOB );
INSERT INTO attachments VALUES ('4c4b6a3be1314ab86138bef4314dde022e600960d8689a2c8f8631802d20dab6', 'image/png', 'a.png', NULL, NULL);
CREATE TABLE "prompt_attachments" ( "response_id" TEXT REFERENCES "responses"("id"), "attachment_id" TEXT REFERENCES "attachments"("id"), "order" INTEGER, PRIMARY KEY ("response_id", "attachment_id") );
INSERT INTO prompt_attachments VALUES ('01m8q0d3q4t4xpbhzq1rkatkz8', '4c4b6a3be1314ab86138bef4314dde022e600960d8689a2c8f8631802d20dab6', 0);
CREATE TABLE "responses" ( "id" TEXT PRIMARY KEY, "model" TEXT, "prompt" TEXT, "system" TEXT, "prompt_json" TEXT, "options_json" TEXT, "response" TEXT, "response_json" TEXT, "conversation_id" TEXT REFERENCES "conversations"("id"), "duration_ms" INTEGER, "datetime_utc" TEXT, "input_tokens" INTEGER, "output_tokens" INTEGER, "token_details" TEXT, "schema_id" TEXT REFERENCES "schemas"("id") , "resolved_model" TEXT);
INSERT INTO responses VALUES ('01m8q0d3jdc71pz1pnazbq4n5h', 'bot', 'When do you open?', 'Be kind.', NULL, '{"temperature": 0.5}', 'At nine.', NULL, '01m8q0d3jdc71pz1pnazbq4n5j', 0, '2026-11-30T19:55:11.309177+00:00', 10, 3, NULL, NULL, NULL);
INSERT INTO responses VALUES ('01m8q0d3jz1s9jjzra20tk12gk', 'bot', 'And on Sundays?', NULL, NULL, '{}', 'We are closed.', NULL, '01m8q0d3jdc71pz1pnazbq4n5j', 0, '2026-11-30T19:55:11.327171+00:00', 10, 3, NULL, NULL, NULL);
INSERT INTO responses VALUES ('01m8q0d3k7wjgrx5ckeeknk76b', 'bot', '我要退货，怎么办？', NULL, NULL, '{}', '请在七天内寄回商品。', NULL, '01m8q0d3k7wjgrx5ckeeknk76c', 0, '2026-11-30T19:55:11.335581+00:00', 10, 3, NULL, NULL, NULL);
INSERT INTO responses VALUES ('01m8q0d3kphh0r31syfgb7kdmt', 'bot', 'Which version?', NULL, NULL, '{}', '', NULL, '01m8q0d3knmtjz03z57exe97xx', 0, '2026-11-30T19:55:11.350712+00:00', 10, 3, NULL, NULL, NULL);
INSERT INTO responses VALUES ('01m8q0d3krn402vqdet1yxj9tz', 'bot', '', NULL, NULL, '{}', 'It is 0.27.', NULL, '01m8q0d3knmtjz03z57exe97xx', 0, '2026-11-30T19:55:11.352882+00:00', 10, 3, NULL, NULL, NULL);
INSERT INTO responses VALUES ('01m8q0d3nny31gj5qkt5ndef8p', 'bot', 'How long does it take?', NULL, NULL, '{}', 'Two days.', NULL, '01m8q0d3nny31gj5qkt5ndef8q', 0, '2026-11-30T19:55:11.413246+00:00', 10, 3, NULL, NULL, NULL);
INSERT INTO responses VALUES ('01m8q0d3q4t4xpbhzq1rkatkz8', 'bot', 'What is this?', NULL, NULL, '{}', 'A picture.', NULL, '01m8q0d3q4t4xpbhzq1rkatkz9', 0, '2026-11-30T19:55:11.460169+00:00', 10, 3, NULL, NULL, NULL);
INSERT INTO responses VALUES ('01m8q0d3qjpsg3y3vbfd77k9ts', 'bot', '', 'Say something.', NULL, '{}', 'Fine.', NULL, '01m8q0d3qjpsg3y3vbfd77k9tt', 0, '2026-11-30T19:55:11.474396+00:00', 10, 3, NULL, NULL, NULL);
CREATE TABLE "fragments" ( "id" INTEGER PRIMARY KEY, "hash" TEXT, "content" TEXT, "datetime_utc" TEXT, "source" TEXT );
INSERT INTO fragments VALUES (1, '9a5ddca6832a4e3bde1dda8c3d578eb71d5d46a7bf5ba7335020647ee430646d', 'Delivery to Köln takes two days.
', '2026-11-30 19:55:11', 'delivery.txt');
INSERT INTO fragments VALUES (2, '6d18249a9aebfceef9f09a99c458eda605e9b5d3f11752a1886a5ca121eb4416', 'Answer from the text.
', '2026-11-30 19:55:11', 'role.txt');
CREATE TABLE "prompt_fragments" ( "response_id" TEXT REFERENCES "responses"("id"), "fragment_id" INTEGER REFERENCES "fragments"("id"), "order" INTEGER, PRIMARY KEY ("response_id", "fragment_id", "order") );
INSERT INTO prompt_fragments VALUES ('01m8q0d3nny31gj5qkt5ndef8p', 1, 0);
CREATE TABLE "system_fragments" ( "response_id" TEXT REFERENCES "responses"("id"), "fragment_id" INTEGER REFERENCES "fragments"("id"), "order" INTEGER, PRIMARY KEY ("response_id", "fragment_id", "order") );
INSERT INTO system_fragments VALUES ('01m8q0d3nny31gj5qkt5ndef8p', 2, 0);
CREATE TABLE "tool_calls" ( "id" INTEGER PRIMARY KEY, "response_id" TEXT REFERENCES "responses"("id"), "tool_id" INTEGER REFERENCES "tools"("id"), "name" TEXT, "arguments" TEXT, "tool_call_id" TEXT );
INSERT INTO tool_calls VALUES (1, '01m8q0d3kphh0r31syfgb7kdmt', 1, 'llm_version', '{}', 'c1');
CREATE TABLE "tool_results" ( "id" INTEGER PRIMARY KEY, "response_id" TEXT REFERENCES "responses"("id"), "tool_id" INTEGER REFERENCES "tools"("id"), "name" TEXT, "output" TEXT, "tool_call_id" TEXT, "instance_id" INTEGER REFERENCES "tool_instances"("id") , "exception" TEXT);
INSERT INTO tool_results VALUES (1, '01m8q0d3krn402vqdet1yxj9tz', 1, 'llm_version', '0.27', 'c1', NULL, NULL);

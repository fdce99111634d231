// openai for Node against a running kdloop: `node openai_node.mjs URL KEY`. Each line that it prints is a JSON string:
// what was shown, or "kill" where the student's server is to end under a request. Ends with 1 where something is not so.
import assert from "node:assert";
import OpenAI from "openai";

const [url, oneAMinute] = process.argv.slice(2);
const said = (text) => console.log(JSON.stringify(text));
let requests = 0;
const counted = (...request) => {
  requests += 1;
  return fetch(...request);
};
const client = (apiKey, more = {}) => new OpenAI({ baseURL: `${url}/v1`, apiKey, fetch: counted, ...more });
const here = client("none");
const ask = (words, more = {}) => ({ model: "kdloop", messages: [{ role: "user", content: words }], max_tokens: 24, ...more });

const { data: whole, response } = await here.chat.completions.create(ask("Name a fruit.")).withResponse();
assert.equal(response.headers.get("x-kdloop-completion"), whole.id);
assert.ok(whole.choices[0].message.content && whole.usage.completion_tokens > 0);
const listed = await here.models.list();
assert.deepEqual(listed.data.map((model) => model.id).slice(0, 2), ["kdloop", "v0"]);
said(`models, and a completion by ${whole.model}, its id also in the header`);

const deltas = here.chat.completions.stream(ask("Name a river.", { stream_options: { include_usage: true } }));
let text = "";
for await (const chunk of deltas) text += chunk.choices[0]?.delta?.content ?? "";
const last = await deltas.finalChatCompletion();
assert.equal(last.choices[0].message.content, text);
assert.ok(last.usage.completion_tokens > 0 && ["stop", "length"].includes(last.choices[0].finish_reason));
const feedback = (body) => here.post("/feedback", { body });
const stored = await feedback({ completion: last.id, thumb: "up", comment: "It flows" });
assert.equal(stored.feedback[0].thumb, "up");
said("a stream by the library's own runner, with its usage, and a thumb by the receipt of its chunks");

const refused = async (promise) => promise.then(() => assert.fail("not refused"), (error) => error);
const named = await refused(here.chat.completions.create(ask("Hi", { presence_penalty: 1 })));
assert.ok(named instanceof OpenAI.BadRequestError && named.param === "presence_penalty" && named.code === "unsupported_value");
const unknown = await refused(here.chat.completions.create(ask("Hi", { model: "gpt-4o" })));
assert.ok(unknown instanceof OpenAI.NotFoundError && unknown.code === "model_not_found" && unknown.param === "model");
const noKey = await refused(client("kd-wrong").chat.completions.create(ask("Hi")));
assert.ok(noKey instanceof OpenAI.AuthenticationError && noKey.code === "invalid_api_key");
const receipt = await refused(feedback({ completion: "chatcmpl-none", thumb: "up" }));
assert.ok(receipt instanceof OpenAI.NotFoundError && receipt.param === "completion");
said("400 with its param and code, 404 of a model and of a receipt, 401, as the library's own errors");

const slow = client(oneAMinute);
await slow.chat.completions.create(ask("One."));
const impatient = await refused(client(oneAMinute, { maxRetries: 0 }).chat.completions.create(ask("Two.")));
assert.ok(impatient instanceof OpenAI.RateLimitError && Number(impatient.headers.get("retry-after")) > 0);
requests = 0;
const began = Date.now();
await slow.chat.completions.create(ask("Two."));
const waited = Date.now() - began;
assert.ok(requests >= 2 && waited >= 1000 * (Number(impatient.headers.get("retry-after")) - 5), `${requests} ${waited}`);
said(`429 with Retry-After: it waits ${Math.round(waited / 1000)} s by itself and gets its completion at request ${requests}`);

requests = 0;
const under = here.chat.completions.create(ask("Tell me a long story about the sea.", { max_tokens: 250, temperature: 1.5 }));
said("kill");
assert.ok((await under).choices[0].message.content);
assert.equal(requests, 2);
said("503 where the student's server ends under it: asked again by itself, and answered");

const left = await here.chat.completions.create(ask("Tell me a long story about a ship.", { stream: true, max_tokens: 250 }));
let seen = 0;
let id = "";
for await (const chunk of left) {
  id = chunk.id;
  if ((seen += 1) > 4) break; // which aborts the request
}
said(`left ${id}`);

// Every step of the script through mcporter, as its model would ask for them. Arguments: file, address.
import { readFileSync } from "node:fs";
import { createRuntime } from "mcporter";

const [file, url] = process.argv.slice(2);
const text = readFileSync(file, "utf8").replace(/\$\{(\w+)\}/g, (_, name) => process.env[name]);
const servers = Object.entries(JSON.parse(text).mcpServers).map(([name, entry]) => ({
  name,
  command: entry.url
    ? { kind: "http", url: new URL(entry.url), headers: entry.headers ?? {} }
    : { kind: "stdio", command: entry.command, args: entry.args ?? [], cwd: process.cwd() },
  env: entry.env ?? {},
}));
const runtime = await createRuntime({ servers });
const owner = new Map();
const tools = [];
for (const { name } of servers) {
  for (const tool of await runtime.listTools(name, { includeSchema: true })) {
    owner.set(tool.name, name);
    tools.push({ type: "function", function: { name: tool.name, description: tool.description, parameters: tool.inputSchema } });
  }
}
const messages = [{ role: "user", content: "go" }];
for (;;) {
  const answer = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "scripted", messages, tools }),
  });
  const message = (await answer.json()).choices[0].message;
  messages.push(message);
  if (!message.tool_calls) break;
  for (const call of message.tool_calls) {
    const { name, arguments: given } = call.function;
    const result = await runtime.callTool(owner.get(name), name, { args: JSON.parse(given) });
    const content = (result.content ?? []).map((block) => block.text ?? "").join("");
    messages.push({ role: "tool", tool_call_id: call.id, content });
  }
}
await runtime.close();
process.stdout.write(String(messages.at(-1).content));

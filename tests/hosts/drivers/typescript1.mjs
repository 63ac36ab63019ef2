// TypeScript SDK 1.x: make the calls of a plan (JSON on standard input), write what came back to standard output.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { readFileSync, writeFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";

const plan = JSON.parse(readFileSync(0, "utf8"));

function connection() {
  if (plan.transport === "stdio") {
    const [command, ...args] = plan.command;
    return new StdioClientTransport({ command, args });
  }
  const url = new URL(plan.url);
  return plan.transport === "sse" ? new SSEClientTransport(url) : new StreamableHTTPClientTransport(url);
}

const client = new Client({ name: "usrland-hosts", version: "1" });
let negotiated = null;
const transport = connection();
const setVersion = transport.setProtocolVersion?.bind(transport);
transport.setProtocolVersion = (version) => {
  negotiated = version;
  setVersion?.(version);
};
await client.connect(transport);
async function call(name, args) {
  let said;
  for (let i = 0; i < plan.tries; i++) {
    said = await client.callTool({ name, arguments: args });
    if (!said.structuredContent?.[plan.unsettled]) break;
    await setTimeout(500);
  }
  return said;
}

const { resources } = await client.listResources();
const answer = {
  negotiated,
  instructions: client.getInstructions(),
  tools: (await client.listTools()).tools,
  resources,
  read: [],
  calls: [],
};
for (const { uri } of resources) answer.read.push(await client.readResource({ uri }));
for (const [name, args] of plan.calls) answer.calls.push(await call(name, args));
await client.close();
writeFileSync(1, JSON.stringify(answer));
process.exit(0);

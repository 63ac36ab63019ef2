// What a host starts for an unpacked bundle, by the resolver that hosts use. Arguments: folder, answers (JSON).
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, sep } from "node:path";
import { getMcpConfigForManifest } from "@anthropic-ai/mcpb/node";

const [folder, answers] = process.argv.slice(2);
const config = await getMcpConfigForManifest({
  manifest: JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8")),
  extensionPath: folder,
  systemDirs: { HOME: homedir() },
  userConfig: JSON.parse(answers),
  pathSeparator: sep,
});
process.stdout.write(JSON.stringify(config ?? null));

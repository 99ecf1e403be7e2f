// Holds an AsyncAPI document to the parser, and messages to the document: `node check.js DOCUMENT MESSAGES`, where MESSAGES
// has one {"subject": …, "body": …} a line. Each subject must match exactly one channel, and each body its schema.
const { readFileSync } = require("node:fs");
const { Parser } = require("@asyncapi/parser");
const Ajv = require("ajv");

/** A pattern for the subjects of an address: a parameter stands for one token or more. */
function pattern(address) {
  const literal = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`^${address.split(/\{[^}]+\}/).map(literal).join("[^ ]+")}$`);
}

async function main([documentFile, messagesFile]) {
  const faults = [];
  const { document, diagnostics } = await new Parser().parse(readFileSync(documentFile, "utf8"));
  for (const { severity, message, path } of diagnostics) {
    if (severity === 0) faults.push(`${path.join(".")}: ${message}`);
  }
  if (!document) return faults;
  const channels = document.allChannels().all().filter((channel) => channel.address());
  const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
  const lines = readFileSync(messagesFile, "utf8").split("\n").filter(Boolean);
  for (const { subject, body } of lines.map((line) => JSON.parse(line))) {
    const matching = channels.filter((channel) => pattern(channel.address()).test(subject));
    if (matching.length !== 1) {
      faults.push(`${subject} matches ${matching.length} channels: ${matching.map((channel) => channel.id())}`);
      continue;
    }
    const payload = matching[0].messages().all()[0].payload();
    const validate = payload && ajv.compile(payload.json());
    if (validate && !validate(body)) faults.push(`${subject}: ${ajv.errorsText(validate.errors)}: ${JSON.stringify(body)}`);
  }
  if (!lines.length) faults.push("there are no messages to check");
  return faults;
}

main(process.argv.slice(2)).then((faults) => {
  console.log(faults.join("\n"));
  process.exitCode = faults.length ? 1 : 0;
});

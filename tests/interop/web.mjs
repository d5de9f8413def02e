// Connect's own clients against the gateway, from Node: what a browser would send, over each protocol. Prints one line for each
// thing shown, and fails at the first that is not so.
//
// Usage: node web.mjs URL DESCRIPTORS

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import * as node from "@connectrpc/connect-node";
import * as web from "@connectrpc/connect-web";

const [baseUrl, descriptors] = process.argv.slice(2);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, await readFile(descriptors)));
const service = (name) => registry.getService(`steersman.v1.${name}`);
const detail = (error, name) => error.findDetails(registry.getMessage(`google.rpc.${name}`))[0];
const TRANSPORTS = {
  "connect-web, Connect JSON": web.createConnectTransport({ baseUrl }),
  "connect-web, Connect binary": web.createConnectTransport({ baseUrl, useBinaryFormat: true }),
  "connect-web, gRPC-Web": web.createGrpcWebTransport({ baseUrl }),
  "connect-node, Connect JSON": node.createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: false }),
  "connect-node, Connect binary": node.createConnectTransport({ baseUrl, httpVersion: "1.1" }),
  "connect-node, gRPC-Web": node.createGrpcWebTransport({ baseUrl, httpVersion: "1.1" }),
};
const history = { itemIds: ["100", "104", "108"] };

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return ConnectError.from(error);
  }
  return assert.fail("a call that has to fail did not");
}

async function shown(name, transport) {
  const client = (service_name) => createClient(service(service_name), transport);
  const { recommend } = client("RecommendationService");
  const { concepts } = await client("FeatureService").listConcepts({});
  const controls = [{ target: { case: "concept", value: concepts[0].name }, operation: 1, strength: 0.5 }];
  const plain = await recommend({ history, k: 5 });
  const steered = await recommend({ history, controls, k: 5 });
  assert.equal(steered.items.length, 5);
  assert.equal(steered.appliedControls[0].control.target.value, concepts[0].name);

  const wrong = await failure(recommend({ controls: [{ target: { case: "concept", value: "none" }, operation: 1 }] }));
  assert.equal(wrong.code, Code.InvalidArgument);
  assert.equal(detail(wrong, "BadRequest").fieldViolations[0].field, "controls[0].concept");
  assert.equal(detail(wrong, "ErrorInfo").domain, "steersman");

  const session = { sessionId: `web-${name.replaceAll(/\W/g, "")}` };
  const sessions = client("SessionService");
  assert.equal((await sessions.appendEvents({ ...session, events: [{ eventId: "1", itemId: "100" }] })).appended, 1);
  assert.deepEqual((await sessions.getSession(session)).session.itemIds, ["100"]);
  await sessions.deleteSession(session);

  const ended = await failure(recommend({ history }, { signal: AbortSignal.abort() }));
  assert.equal(ended.code, Code.Canceled);
  const large = await failure(recommend({ history: { itemIds: ["x".repeat(5 << 20)] } }));
  assert.ok([Code.InvalidArgument, Code.ResourceExhausted].includes(large.code), Code[large.code]);
  assert.equal(detail(large, "ErrorInfo").reason, "MESSAGE_TOO_LARGE");
  return [...plain.items, ...steered.items];
}

const lists = [];
for (const [name, transport] of Object.entries(TRANSPORTS)) {
  lists.push(await shown(name, transport));
  console.log(`${name}: catalogue, steered list, session, errors with details`);
}
for (const list of lists) {
  assert.deepEqual(list.map((item) => item.itemId), lists[0].map((item) => item.itemId));
  assert.ok(list.every((item, place) => Math.abs(item.score - lists[0][place].score) < 1e-4));
}
console.log(`${lists.length} clients: the same lists, scores included`);

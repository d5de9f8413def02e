// A stranger's client: every call from Node, through the .proto files and through reflection. Prints one line for each thing
// shown, and fails at the first that is not so.
//
// Usage: node client.mjs GRPC_ADDRESS METRICS_URL STORE_PID PROTO_FOLDER GOOGLE_PROTO_FOLDER

import assert from "node:assert/strict";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import { GrpcReflection } from "grpc-js-reflection-client";
import protobuf from "protobufjs";

const [address, metricsUrl, storePid, protos, googleProtos] = process.argv.slice(2);
const SERVICES = [
  "RecommendationService",
  "SessionService",
  "FeatureService",
  "ItemService",
  "ModelService",
  "ExplanationService",
  "ScenarioService",
  "ReleaseService",
];
const FORMAT = { keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true };
const { status } = grpc;
const insecure = grpc.credentials.createInsecure();
const clients = [];
const called = new Set();

// The service's methods as functions that return promises. `options.onCall` is given the call, to cancel it.
function connect(Service) {
  const client = new Service(address, insecure);
  clients.push(client);
  const methods = Object.entries(Service.service).filter(([, method]) => !method.responseStream);
  return Object.fromEntries(methods.map(([name, method]) => [name, promised(client, name, method)]));
}

function promised(client, name, method) {
  return (request = {}, { onCall, ...options } = {}) =>
    new Promise((resolve, reject) => {
      called.add(method.path);
      const call = client[name](request, new grpc.Metadata(), options, (error, answer) =>
        error ? reject(error) : resolve(answer),
      );
      onCall?.(call);
    });
}

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  return assert.fail("a call that has to fail did not");
}

// The google.rpc.Status in the trailers, with its details by type: { code, BadRequest: {...}, ErrorInfo: {...} }.
function details(error) {
  const [bytes] = error.metadata.get("grpc-status-details-bin");
  assert.ok(bytes, `${error.message} has no grpc-status-details-bin`);
  const found = googleRpc.lookupType("google.rpc.Status").decode(bytes);
  const byType = found.details.map((any) => {
    const type = googleRpc.lookupType(any.type_url.split("/").at(-1));
    return [type.name, type.toObject(type.decode(any.value), { defaults: true, longs: Number })];
  });
  return { code: found.code, ...Object.fromEntries(byType) };
}

async function calls(method, codes) {
  const lines = (await (await fetch(metricsUrl)).text()).split("\n");
  const name = codes ? "grpc_server_handled_total" : "grpc_server_started_total";
  const wanted = (line) =>
    line.startsWith(`${name}{`) &&
    line.includes(`grpc_method="${method}"`) &&
    (!codes || codes.some((code) => line.includes(`grpc_code="${code}"`)));
  return lines.filter(wanted).reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}

async function until(what, holds) {
  for (const end = Date.now() + 30_000; Date.now() < end; await sleep(20)) if (await holds()) return;
  assert.fail(`did not come true: ${what}`);
}

async function models(model) {
  const info = await model.GetModelInfo();
  assert.match(info.bundle_version, /^[0-9a-f]{64}$/);
  assert.match(info.bundle_format, /^1\.\d+$/);
  assert.ok(info.shapes.items > 0 && info.limits.k > 0 && info.attributes.includes("genres"));
  const { bundles } = await model.ListBundles();
  assert.deepEqual(bundles.filter(({ served }) => served).map(({ version }) => version), [info.bundle_version]);
  const { histories } = await model.ListHistories({ page_size: 3, seed: 7 });
  assert.equal(histories.length, 3);
  assert.ok(histories.every(({ history }) => history.item_ids.length));
  return info;
}

// What a server without a link to turn says; a change is tested where there is one.
async function releaseCalls(release, info) {
  const { releases } = await release.ListReleases();
  assert.deepEqual(
    releases.map(({ version, channel, state, share }) => [version, channel, state, share]),
    [[info.bundle_version, "CHANNEL_STABLE", "RELEASE_STATE_SERVING", 1]],
  );
  const refused = [
    [() => release.LoadRelease({ bundle: "no-such-bundle" }), "RELEASES_FIXED"],
    [() => release.SetCanaryShare({ canary_share: 0.5 }), "NO_CANARY"],
    [() => release.PromoteCanary(), "NO_CANARY"],
    [() => release.RollBack(), "NO_RELEASE_BEFORE"],
  ];
  for (const [call, reason] of refused) assert.equal(details(await failure(call())).ErrorInfo.reason, reason);
}

async function catalogue(feature, info) {
  const features = [];
  let page = { next_page_token: "" };
  do {
    page = await feature.ListFeatures({ page_size: 25, page_token: page.next_page_token, include_rare: true });
    features.push(...page.features);
  } while (page.next_page_token);
  const byId = [...features].sort((a, b) => a.id - b.id);
  assert.deepEqual(byId.map(({ id }) => id), Array.from({ length: info.shapes.features }, (_, id) => id));
  assert.equal(page.total_size, features.length);
  const one = await feature.GetFeature({ id: 7, bundle_version: info.bundle_version });
  assert.deepEqual(one, { feature: byId[7], bundle_version: info.bundle_version });
  const { concepts } = await feature.ListConcepts({ text: "horror" });
  assert.deepEqual(concepts.map(({ name }) => name), ["genres:Horror"]);
  const near = await feature.ListNeighbours({ concept: concepts[0].name, size: 2 });
  assert.ok(near.alike.length && near.alike.length <= 2);
  const own = { id: 7, bundle_version: info.bundle_version };
  const corrected = await feature.SetLabel({ ...own, label: "Said by Node", author: "node" });
  assert.deepEqual([corrected.feature.label, corrected.feature.correction.author], ["Said by Node", "node"]);
  assert.equal((await feature.SetLabel({ ...own, author: "node" })).feature.label, one.feature.label);
  return { feature: features.find(({ scale }) => scale > 0), concept: concepts[0] };
}

async function items(item, info) {
  const page = await item.ListItems({ page_size: 2 });
  assert.deepEqual([page.items.length, page.total_size, page.bundle_version], [2, info.shapes.items, info.bundle_version]);
  const next = await item.ListItems({ page_size: 2, page_token: page.next_page_token });
  assert.ok(next.items[0].item_id > page.items[1].item_id);
  const found = await item.ListItems({ text: page.items[0].title });
  assert.ok(found.exact_matches >= 1);
  const listed = await item.ListItems({ item_ids: [page.items[1].item_id, "unknown"] });
  assert.deepEqual(listed.items.map(({ item_id }) => item_id), [page.items[1].item_id]);
  const { attributes } = await item.ListAttributes({ name: "genres" });
  assert.ok(attributes[0].values.some(({ value }) => value === "Horror"));
}

async function sessions(session, recommendation, concept) {
  const session_id = "node";
  const events = ["100", "104", "108"].map((item_id, n) => ({ event_id: `e${n}`, item_id }));
  const first = await session.AppendEvents({ session_id, events });
  assert.deepEqual([first.appended, first.duplicates, first.total_events], [3, 0, 3]);
  const again = await session.AppendEvents({ session_id, events });
  assert.deepEqual([again.appended, again.duplicates, again.total_events], [0, 3, 3]);
  const controls = [{ concept: concept.name, operation: "OPERATION_ADD", strength: 0.5 }];
  await session.SetControls({ session_id, controls });
  const kept = (await session.GetSession({ session_id })).session;
  assert.deepEqual(kept.item_ids, events.map(({ item_id }) => item_id));
  assert.equal(kept.controls[0].concept, concept.name);
  assert.ok(kept.time_to_live.seconds > 0);

  const answer = await recommendation.Recommend({ session_id, k: 5 });
  assert.deepEqual([answer.items.length, answer.history_use.used_events], [5, 3]);
  assert.equal(answer.applied_controls[0].source, "CONTROL_SOURCE_SESSION");
  // The same history and controls in the request give the same items: session state is no other path.
  const explicit = await recommendation.Recommend({ history: { item_ids: kept.item_ids }, controls, k: 5 });
  assert.deepEqual(ids(explicit), ids(answer));
  // Side by side, one of them refused.
  const { results } = await recommendation.BatchRecommend({ requests: [{ session_id, k: 5 }, { k: 5, controls: [{ concept: "no" }] }] });
  assert.deepEqual(ids(results[0].response), ids(answer));
  assert.equal(results[1].failure.reason, "INVALID_REQUEST");

  assert.equal((await session.DeleteSession({ session_id })).existed, true);
  assert.equal((await session.DeleteSession({ session_id })).existed, false);
  assert.equal((await failure(session.GetSession({ session_id }))).code, status.NOT_FOUND);
}

async function explanations(explanation) {
  const control = { concept: "genres:Horror", operation: "OPERATION_ADD", strength: 1 };
  const { accounts } = await explanation.Explain({ request: { history: { item_ids: ["100"] }, controls: [control], k: 3 } });
  for (const { score, features, other_features, unexplained, bias, controls } of accounts) {
    const parts = [...features.map(({ amount }) => amount), other_features, unexplained, bias, ...controls];
    assert.ok(Math.abs(parts.reduce((sum, part) => sum + part, 0) - score) < 1e-3);
  }
  assert.equal(accounts.length, 3);
}

async function scenarios(scenario, recommendation) {
  const control = { concept: "genres:Horror", operation: "OPERATION_ADD", strength: 1 };
  const put = await scenario.PutScenario({ scenario: { name: "node", controls: [control] }, author: "node" });
  assert.equal(put.scenario.version, 1);
  const answer = await recommendation.Recommend({ scenario: "node", k: 3 });
  assert.equal(answer.scenario_version, 1);
  assert.deepEqual((await scenario.GetScenario({ name: "node" })).scenario.controls[0].concept, control.concept);
  assert.ok((await scenario.ListScenarios()).scenarios.some(({ name }) => name === "node"));
  const { replays } = await scenario.ReplayScenarios({ names: ["node"] });
  assert.equal(replays[0].status, "REPLAY_STATUS_NOTHING_TO_COMPARE");
  assert.equal((await scenario.DeleteScenario({ name: "node", version: 1 })).existed, true);
  const { changes } = await scenario.ListScenarioChanges({ name: "node" });
  assert.deepEqual(changes.map(({ action }) => action), ["SCENARIO_ACTION_DELETE", "SCENARIO_ACTION_PUT"]);
}

const ids = (answer) => answer.items.map(({ item_id }) => item_id);

async function recommendations(recommendation, info, feature) {
  const request = { history: { item_ids: ["100", "104"] }, k: 7, request_id: "mine" };
  const plain = await recommendation.Recommend(request);
  assert.deepEqual([plain.items.length, plain.request_id, plain.bundle_version], [7, "mine", info.bundle_version]);
  const scores = plain.items.map(({ score }) => score);
  assert.deepEqual(scores, [...scores].sort((a, b) => b - a));
  assert.ok(!ids(plain).includes("100"), "items of the history are left out");
  const target = { id: feature.id, bundle_version: info.bundle_version };
  const controls = [{ feature: target, operation: "OPERATION_SET", strength: 5 }];
  const steered = await recommendation.Recommend({ ...request, controls });
  assert.equal(steered.applied_controls[0].edits[0].feature_id, feature.id);
  assert.notDeepEqual(scores, steered.items.map(({ score }) => score));
  const filters = { attributes: [{ attribute: "genres", any_of: ["Horror"] }], deny_item_ids: [ids(plain)[0]] };
  const filtered = await recommendation.Recommend({ ...request, k: 1000, filters });
  assert.equal(filtered.items.length, filtered.eligible_items);
  assert.ok(!ids(filtered).includes(ids(plain)[0]));
}

async function errors(recommendation, feature) {
  const good = { concept: "genres:Horror", operation: "OPERATION_ADD", strength: 0.5 };
  const controls = [good, good, { ...good, strength: 1e6 }];
  const invalid = await failure(recommendation.Recommend({ controls }));
  assert.equal(invalid.code, status.INVALID_ARGUMENT);
  const { code, BadRequest, ErrorInfo } = details(invalid);
  assert.equal(code, status.INVALID_ARGUMENT);
  assert.deepEqual(BadRequest.field_violations.map(({ field }) => field), ["controls[2].strength"]);
  assert.deepEqual([ErrorInfo.domain, ErrorInfo.reason], ["steersman", "INVALID_REQUEST"]);

  const stale = { feature: { id: 1, bundle_version: "0".repeat(64) }, operation: "OPERATION_ABLATE" };
  const refused = await failure(recommendation.Recommend({ controls: [stale] }));
  assert.equal(refused.code, status.FAILED_PRECONDITION);
  assert.equal(details(refused).ErrorInfo.reason, "FEATURE_OF_ANOTHER_BUNDLE");
  const missing = await failure(feature.GetFeature({ id: 1_000_000 }));
  assert.equal(missing.code, status.NOT_FOUND);
  assert.equal(details(missing).ErrorInfo.reason, "NOT_FOUND");
}

async function health(reflection) {
  const descriptor = await reflection.getDescriptorBySymbol("grpc.health.v1.Health");
  const { Health } = descriptor.getPackageObject(FORMAT).grpc.health.v1;
  const { Check: check } = connect(Health);
  for (const service of ["", ...SERVICES.map((name) => `steersman.v1.${name}`)])
    assert.equal((await check({ service })).status, "SERVING");
  assert.equal((await failure(check({ service: "nobody" }))).code, status.NOT_FOUND);
  const client = new Health(address, insecure);
  clients.push(client);
  const watch = client.Watch({ service: "" });
  called.add(Health.service.Watch.path);
  const [update] = await new Promise((resolve, reject) => watch.on("data", (m) => resolve([m])).on("error", reject));
  assert.equal(update.status, "SERVING");
  watch.removeAllListeners("error").on("error", () => {}).cancel();
}

async function reflected(reflection, recommendation) {
  const found = await reflection.listServices();
  assert.ok(SERVICES.every((name) => found.includes(`steersman.v1.${name}`)) && found.includes("grpc.health.v1.Health"));
  const descriptor = await reflection.getDescriptorBySymbol("steersman.v1.RecommendationService");
  const client = connect(descriptor.getPackageObject(FORMAT).steersman.v1.RecommendationService);
  const request = {
    history: { item_ids: ["100", "104", "108"] },
    controls: [{ concept: "genres:Horror", operation: "OPERATION_ADD", strength: 0.5 }],
    request_id: "same",
  };
  const [reflectedAnswer, answer] = [await client.Recommend(request), await recommendation.Recommend(request)];
  for (const each of [reflectedAnswer, answer]) delete each.timings;
  assert.deepEqual(reflectedAnswer, answer);
  return found.length;
}

// With the session store standing still a call is told so before its deadline, and ends when its caller gives up.
async function impatience(session) {
  const gone = ["Canceled", "DeadlineExceeded"];
  const [started, given_up] = [await calls("GetSession"), await calls("GetSession", gone)];
  process.kill(Number(storePid), "SIGSTOP");
  try {
    const late = failure(session.GetSession({ session_id: "late" }, { deadline: Date.now() + 500 }));
    assert.equal((await late).code, status.UNAVAILABLE);
    let call;
    const cancelled = failure(session.GetSession({ session_id: "cancelled" }, { onCall: (made) => (call = made) }));
    await until("both calls reached the server", async () => (await calls("GetSession")) === started + 2);
    call.cancel();
    assert.equal((await cancelled).code, status.CANCELLED);
    await until("the server let that call go", async () => (await calls("GetSession", gone)) === given_up + 1);
  } finally {
    process.kill(Number(storePid), "SIGCONT");
  }
  assert.equal((await failure(session.GetSession({ session_id: "late" }))).code, status.NOT_FOUND);
}

const googleRpc = new protobuf.Root();
googleRpc.resolvePath = (origin, target) =>
  target.startsWith("google/protobuf/") ? target : path.join(googleProtos, target);
googleRpc.loadSync(["google/rpc/status.proto", "google/rpc/error_details.proto"], { keepCase: true });

const files = SERVICES.map((name) => `steersman/v1/${name.replace("Service", "").toLowerCase()}_service.proto`);
const loaded = grpc.loadPackageDefinition(protoLoader.loadSync(files, { ...FORMAT, includeDirs: [protos] }));
const [recommendation, session, feature, item, model, explanation, scenario, release] = SERVICES.map((name) => connect(loaded.steersman.v1[name]));
const reflection = new GrpcReflection(address, insecure);

const info = await models(model);
const steerable = await catalogue(feature, info);
await items(item, info);
await sessions(session, recommendation, steerable.concept);
await recommendations(recommendation, info, steerable.feature);
await explanations(explanation);
await scenarios(scenario, recommendation);
await releaseCalls(release, info);
await health(reflection);
const every = SERVICES.flatMap((name) => Object.values(loaded.steersman.v1[name].service).map((method) => method.path));
assert.deepEqual(every.filter((method) => !called.has(method)), []);
console.log(`all ${every.length} calls of ${SERVICES.length} services answer as they should, and health's Check and Watch`);
await errors(recommendation, feature);
console.log("errors carry google.rpc.Status: BadRequest names controls[2].strength, ErrorInfo the reason");
const listed = await reflected(reflection, recommendation);
console.log(`reflection lists ${listed} services; a call made from its descriptors alone gives the same answer`);
await impatience(session);
console.log("a deadline of 500 ms and a cancellation reach the caller and the server, which goes on serving");
for (const client of clients) client.close();
process.exit();

// Uses a Redis as applications with node-redis do: node node-redis.js HOST PORT standalone|cluster
"use strict";

const assert = require("node:assert/strict");
const { once } = require("node:events");
const { createClient, createClientPool, createCluster, WatchError } = require("redis");
const { BasicClientSideCache } = require("@redis/client");

const [host, port, mode] = [process.argv[2], Number(process.argv[3]), process.argv[4]];
const many = 10000;
const large = "0123456789abcdef".repeat(4 << 20);

async function connect(options) {
  const redis = createClient({ socket: { host, port }, ...options });
  redis.on("error", () => {}); // a command fails, or works after the reconnect
  return redis.connect();
}

async function values(redis) {
  assert.equal(await redis.set("k", "v"), "OK");
  assert.equal(await redis.get("k"), "v");
  assert.equal(await redis.get("nothing"), null);
  await redis.del("h");
  assert.equal(await redis.hSet("h", { a: "1", b: "2" }), 2);
  assert.deepEqual({ ...(await redis.hGetAll("h")) }, { a: "1", b: "2" });
  await assert.rejects(redis.lPush("k", "x"), /WRONGTYPE/);
  assert.equal(await redis.set("large", large), "OK");
  assert((await redis.get("large")) === large);
  await redis.del("large");
}

async function pipelines(redis) {
  const replies = [];
  for (let i = 0; i < many; i++) replies.push(redis.set(`p:${i}`, String(i)), redis.get(`p:${i}`));
  const results = await Promise.all(replies);
  for (let i = 0; i < many; i++) assert.equal(results[2 * i + 1], String(i));
}

async function scripts(redis) {
  for (let i = 0; i < 30; i++) { // keys on every node
    await redis.set(`n:${i}`, String(i));
    assert.equal(await redis.eval("return redis.call('GET', KEYS[1]) * 2", { keys: [`n:${i}`] }), 2 * i);
  }
}

async function loadedScripts(redis) {
  const sha = await redis.scriptLoad("return {KEYS[1], ARGV[1]}");
  for (let i = 0; i < 30; i++) assert.deepEqual(await redis.evalSha(sha, { keys: [`n:${i}`], arguments: ["x"] }), [`n:${i}`, "x"]);
}

async function transactions(redis) {
  assert.deepEqual(await redis.multi().set("{t}a", "1").incr("{t}a").get("{t}a").exec(), ["OK", 2, "2"]);
}

async function watches(redis, other) {
  await redis.watch("{t}a");
  await other.set("{t}a", "3");
  await assert.rejects(redis.multi().set("{t}a", "4").exec(), WatchError);
  assert.equal(await redis.get("{t}a"), "3");
}

// heard returns a listener, and a promise of what it is called with first.
function heard() {
  let listener;
  return [new Promise((resolve) => (listener = (...args) => resolve(args))), (...args) => listener(...args)];
}

async function pubsub(redis, subscriber) {
  const [message, onMessage] = heard();
  const [pattern, onPattern] = heard();
  await subscriber.subscribe("news", onMessage);
  await subscriber.pSubscribe("new*", onPattern);
  await redis.publish("news", "hello");
  assert.deepEqual(await message, ["hello", "news"]);
  assert.deepEqual(await pattern, ["hello", "news"]);
  await subscriber.unsubscribe("news");
  await subscriber.pUnsubscribe("new*");
  for (const channel of ["a", "b", "c"]) { // on every node
    const [message, onMessage] = heard();
    await subscriber.sSubscribe(channel, onMessage);
    await redis.sPublish(channel, "hello");
    assert.deepEqual(await message, ["hello", channel]);
    await subscriber.sUnsubscribe(channel);
  }
}

async function blocking(redis, pusher) {
  const popped = redis.blPop("b:list", 10);
  await pusher.rPush("b:list", "one");
  const { key, element } = await popped; // buffers on a connection that was a subscriber's
  assert.deepEqual([String(key), String(element)], ["b:list", "one"]);
  assert.equal(await redis.blPop("b:list", 0.05), null);
}

async function scan(redis) {
  const seen = new Set();
  for await (const keys of redis.scanIterator({ MATCH: "p:*", COUNT: 1000 })) for (const key of keys) seen.add(key);
  assert.equal(seen.size, many);
}

async function reconnects(redis, killer) {
  const id = await redis.clientId();
  const ready = new Promise((resolve) => redis.once("ready", resolve));
  assert.equal(await killer.clientKill({ filter: "ID", id }), 1);
  await ready;
  assert.equal(await redis.get("k"), "v");
  assert.notEqual(await redis.clientId(), id);
}

async function caches(other) {
  const cache = new BasicClientSideCache();
  const redis = await connect({ RESP: 3, clientSideCache: cache });
  for (let i = 0; i < 30; i++) { // keys on every node
    await other.set(`cached:${i}`, "old");
    assert.equal(await redis.get(`cached:${i}`), "old");
    assert.equal(await redis.get(`cached:${i}`), "old");
  }
  assert.equal(cache.stats().hitCount, 30);
  for (let i = 0; i < 30; i++) {
    const invalidated = once(cache, "invalidate");
    await other.set(`cached:${i}`, "new");
    await invalidated;
    assert.equal(await redis.get(`cached:${i}`), "new");
  }
  assert.equal(cache.stats().hitCount, 30);
  redis.destroy();
}

async function users() {
  const named = await connect({ username: "app", password: "app-secret", name: "tester" });
  assert.equal(await named.aclWhoAmI(), "app");
  assert.equal(await named.clientGetName(), "tester");
  await assert.rejects(named.get("other"), /NOPERM/);
  await named.close();
  await assert.rejects(connect({ username: "app", password: "wrong", socket: { host, port, reconnectStrategy: false } }), /WRONGPASS/);
}

async function databases() {
  const second = await connect({ database: 2 });
  await second.set("in2", "v");
  assert.equal(await second.get("in2"), "v");
  await second.close();
}

async function pools() {
  const pool = await createClientPool({ socket: { host, port } }).connect();
  await Promise.all(Array.from({ length: 100 }, (_, i) => pool.set(`pool:${i}`, String(i))));
  assert.equal(await pool.get("pool:99"), "99");
  await pool.close();
}

async function cluster() {
  for (const RESP of [2, 3]) {
    const redis = createCluster({ rootNodes: [{ socket: { host, port } }], RESP });
    await redis.connect();
    assert.deepEqual(redis.masters.map((m) => m.port), [port]);
    await values(redis);
    await pipelines(redis);
    await scripts(redis);
    await transactions(redis);
    await pubsub(redis, redis);
    await blocking(await redis.nodeClient(redis.masters[0]).then((c) => c.duplicate().connect()), redis);
    redis.destroy();
  }
}

async function main() {
  for (const RESP of [2, 3]) {
    const redis = await connect({ RESP });
    const other = await connect({ RESP });
    await redis.flushAll();
    await values(redis);
    await pipelines(redis);
    await scan(redis);
    await scripts(redis);
    await loadedScripts(redis);
    await transactions(redis);
    await watches(redis, other);
    await pubsub(other, redis);
    await blocking(redis, other);
    await reconnects(redis, other);
    if (RESP === 3) await caches(other);
    await Promise.all([redis.close(), other.close()]);
  }
  await users();
  await pools();
  if (mode === "standalone") await databases();
  if (mode === "cluster") await cluster();
}

main().then(
  () => {
    console.log("ok");
    process.exit();
  },
  (error) => {
    console.error(error);
    process.exit(1);
  },
);

// Uses a Redis as applications with ioredis do: node ioredis.js HOST PORT standalone|cluster
"use strict";

const assert = require("node:assert/strict");
const { once } = require("node:events");
const Redis = require("ioredis");

const [host, port, mode] = [process.argv[2], Number(process.argv[3]), process.argv[4]];
const many = 10000;
const large = Buffer.alloc(64 << 20, "0123456789abcdef");

async function values(redis) {
  assert.equal(await redis.set("k", "v"), "OK");
  assert.equal(await redis.get("k"), "v");
  assert.equal(await redis.get("nothing"), null);
  assert.equal(await redis.hset("h", { a: "1", b: "2" }), 2);
  assert.deepEqual(await redis.hgetall("h"), { a: "1", b: "2" });
  await assert.rejects(redis.call("NOSUCH"), /unknown command/);
  assert.deepEqual(await redis.getBuffer("k"), Buffer.from("v"));
  assert.equal(await redis.set("large", large), "OK");
  assert((await redis.getBuffer("large")).equals(large));
  await redis.del("large");
}

async function pipelines(redis) {
  const pipeline = redis.pipeline();
  for (let i = 0; i < many; i++) pipeline.set(`p:${i}`, i).get(`p:${i}`);
  const results = await pipeline.exec();
  for (let i = 0; i < many; i++) assert.deepEqual(results[2 * i + 1], [null, String(i)]);
}

async function scripts(redis) {
  redis.defineCommand("double", { numberOfKeys: 1, lua: "return redis.call('GET', KEYS[1]) * 2" });
  for (let i = 0; i < 30; i++) { // keys on every node
    await redis.set(`n:${i}`, i);
    assert.equal(await redis.double(`n:${i}`), 2 * i);
  }
  const sha = await redis.script("LOAD", "return {KEYS[1], ARGV[1]}");
  for (let i = 0; i < 30; i++) assert.deepEqual(await redis.evalsha(sha, 1, `n:${i}`, "x"), [`n:${i}`, "x"]);
}

async function transactions(redis) {
  assert.deepEqual(await redis.multi().set("{t}a", 1).incr("{t}a").get("{t}a").exec(), [[null, "OK"], [null, 2], [null, "2"]]);
}

async function watches(redis) {
  const other = redis.duplicate();
  await redis.watch("{t}a");
  await other.set("{t}a", 3);
  assert.equal(await redis.multi().set("{t}a", 4).exec(), null);
  assert.equal(await redis.get("{t}a"), "3");
  await redis.watch("{t}a");
  assert.deepEqual(await redis.multi().set("{t}a", 4).exec(), [[null, "OK"]]);
  await other.quit();
}

async function pubsub(redis, subscriber) {
  assert.equal(await subscriber.subscribe("news"), 1);
  assert.equal(await subscriber.psubscribe("new*"), 2);
  const message = once(subscriber, "message");
  const pattern = once(subscriber, "pmessage");
  await redis.publish("news", "hello");
  assert.deepEqual(await message, ["news", "hello"]);
  assert.deepEqual(await pattern, ["new*", "news", "hello"]);
  assert.equal(await subscriber.unsubscribe("news"), 1);
  assert.equal(await subscriber.punsubscribe("new*"), 0);
  assert.equal(await subscriber.get("k"), "v"); // it is an ordinary connection again
}

async function sharded(redis, subscriber) {
  for (const channel of ["a", "b", "c"]) { // on every node
    assert.equal(await subscriber.ssubscribe(channel), 1);
    const message = once(subscriber, "smessage");
    assert.equal(await redis.spublish(channel, "hello"), 1);
    assert.deepEqual(await message, [channel, "hello"]);
    assert.equal(await subscriber.sunsubscribe(channel), 0);
  }
}

async function blocking(redis, pusher) {
  const popped = redis.blpop("b:list", 10);
  await pusher.rpush("b:list", "one");
  assert.deepEqual(await popped, ["b:list", "one"]);
  assert.equal(await redis.blpop("b:list", 0.05), null);
}

async function scan(redis) {
  const seen = new Set();
  for await (const keys of redis.scanStream({ match: "p:*", count: 1000 })) for (const key of keys) seen.add(key);
  assert.equal(seen.size, many);
}

async function reconnects(redis, killer) {
  const id = await redis.client("ID");
  const closed = once(redis, "close");
  assert.equal(await killer.client("KILL", "ID", id), 1);
  await closed;
  assert.equal(await redis.get("k"), "v");
  assert.notEqual(await redis.client("ID"), id);
}

async function subscriberReconnects(redis, killer) {
  const id = await redis.client("ID");
  await redis.subscribe("again");
  const ready = once(redis, "ready");
  assert.equal(await killer.client("KILL", "TYPE", "pubsub", "ID", id), 1);
  await ready;
  const message = once(redis, "message");
  while ((await killer.publish("again", "hello")) === 0); // it subscribes again by itself
  assert.deepEqual(await message, ["again", "hello"]);
  await redis.unsubscribe("again");
}

async function monitor(redis) {
  const lines = await redis.monitor();
  const line = once(lines, "monitor");
  await redis.set("monitored", "v");
  assert.deepEqual((await line)[1], ["set", "monitored", "v"]);
  lines.disconnect();
}

async function users() {
  const named = new Redis({ host, port, username: "app", password: "app-secret", connectionName: "tester", enableAutoPipelining: true });
  assert.equal(await named.acl("WHOAMI"), "app");
  assert.equal(await named.client("GETNAME"), "tester");
  await Promise.all(Array.from({ length: 100 }, (_, i) => named.set(`app:${i}`, i)));
  assert.equal(await named.get("app:99"), "99");
  await assert.rejects(named.get("other"), /NOPERM/);
  await named.quit();

  const wrong = new Redis({ host, port, username: "app", password: "wrong", retryStrategy: null });
  wrong.on("error", () => {}); // it is looked for in the command's own error
  await assert.rejects(wrong.get("app:1"));
  wrong.disconnect();
}

async function databases() {
  const second = new Redis({ host, port, db: 2 });
  await second.set("in2", "v");
  assert.equal(await second.get("in2"), "v");
  await second.quit();
}

async function cluster() {
  const redis = new Redis.Cluster([{ host, port }]);
  await redis.flushall();
  const subscriber = new Redis.Cluster([{ host, port }]);
  await values(redis);
  await pipelines(redis);
  await scripts(redis);
  await transactions(redis);
  await pubsub(redis, subscriber);
  await blocking(subscriber, redis);
  assert.deepEqual(redis.nodes("master").map((n) => n.options.port), [port]);
  const shards = new Redis.Cluster([{ host, port }], { shardedSubscribers: true });
  const message = once(shards, "smessage");
  await shards.ssubscribe("a");
  await redis.spublish("a", "hello");
  assert.deepEqual((await message).slice(0, 2), ["a", "hello"]);
  await Promise.all([redis.quit(), subscriber.quit()]);
  shards.disconnect();
}

async function main() {
  const redis = new Redis({ host, port });
  const other = new Redis({ host, port });
  await redis.flushall();
  await values(redis);
  await pipelines(redis);
  await scan(redis);
  await scripts(redis);
  await transactions(redis);
  await watches(redis);
  await pubsub(other, redis);
  await sharded(other, redis);
  await blocking(redis, other);
  await reconnects(redis, other);
  await subscriberReconnects(redis, other);
  await monitor(other);
  await users();
  if (mode === "standalone") await databases();
  await Promise.all([redis.quit(), other.quit()]);
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

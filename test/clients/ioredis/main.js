// Uses a Redis as applications with ioredis do: node main.js HOST PORT standalone|cluster
"use strict";

const assert = require("node:assert/strict");
const Redis = require("ioredis");

const [host, port, mode] = process.argv.slice(2);

async function main() {
  const redis = new Redis({ host, port: Number(port) });
  assert.equal(await redis.set("k", "v"), "OK");
  assert.equal(await redis.get("k"), "v");
  assert.equal(await redis.get("nothing"), null);
  assert.equal(await redis.hset("h", { a: "1", b: "2" }), 2);
  assert.deepEqual(await redis.hgetall("h"), { a: "1", b: "2" });
  await assert.rejects(redis.call("NOSUCH"), /unknown command/);
  assert.deepEqual(await redis.getBuffer("k"), Buffer.from("v"));

  const many = 10000;
  const pipeline = redis.pipeline();
  for (let i = 0; i < many; i++) pipeline.set(`p:${i}`, i).get(`p:${i}`);
  const results = await pipeline.exec();
  for (let i = 0; i < many; i++) assert.deepEqual(results[2 * i + 1], [null, String(i)]);

  redis.defineCommand("double", { numberOfKeys: 1, lua: "return redis.call('GET', KEYS[1]) * 2" });
  await redis.set("n", 21);
  assert.equal(await redis.double("n"), 42);
  await redis.quit();

  const named = new Redis({ host, port: Number(port), username: "app", password: "app-secret", connectionName: "tester", enableAutoPipelining: true });
  assert.equal(await named.acl("WHOAMI"), "app");
  assert.equal(await named.client("GETNAME"), "tester");
  await Promise.all(Array.from({ length: 100 }, (_, i) => named.set(`app:${i}`, i)));
  assert.equal(await named.get("app:99"), "99");
  await assert.rejects(named.get("other"), /NOPERM/);
  await named.quit();

  const wrong = new Redis({ host, port: Number(port), username: "app", password: "wrong", retryStrategy: null });
  wrong.on("error", () => {}); // it is looked for in the command's own error
  await assert.rejects(wrong.get("app:1"));
  wrong.disconnect();

  if (mode === "standalone") {
    const second = new Redis({ host, port: Number(port), db: 2 });
    await second.set("in2", "v");
    assert.equal(await second.get("in2"), "v");
    await second.quit();
  }
}

main().then(
  () => console.log("ok"),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);

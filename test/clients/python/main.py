"""Uses a Redis as applications with redis-py do: main.py HOST PORT standalone|cluster."""

import asyncio
import sys
import threading

import redis
import redis.asyncio
from redis.asyncio.cluster import RedisCluster as AsyncCluster
from redis.cluster import RedisCluster

HOST, PORT, MODE = sys.argv[1], int(sys.argv[2]), sys.argv[3]
MANY = 10_000
DOUBLE = "return redis.call('GET', KEYS[1]) * 2"
LARGE = b"0123456789abcdef" * (4 << 20)  # 64 MiB


def raises(kind, f, *args, **kwargs):
    try:
        f(*args, **kwargs)
    except kind as e:
        return str(e)
    raise AssertionError(f"{kind.__name__} is not raised")


def values(r):
    assert r.set("k", "v") is True
    assert r.get("k") == b"v"
    assert r.get("nothing") is None
    assert r.hset("h", mapping={"a": 1, "b": 2}) == 2
    assert r.hgetall("h") == {b"a": b"1", b"b": b"2"}
    assert "unknown command" in raises(redis.ResponseError, r.execute_command, "NOSUCH", **anywhere(r))
    assert "wrong kind of value" in raises(redis.ResponseError, r.lpush, "k", "x")
    assert r.set("large", LARGE)
    assert r.get("large") == LARGE
    r.delete("large")


def anywhere(r):
    """What RedisCluster wants to know of a command without a key."""
    return {"target_nodes": RedisCluster.RANDOM} if isinstance(r, RedisCluster) else {}


def pipelines(r):
    p = r.pipeline(transaction=False) if isinstance(r, redis.Redis) else r.pipeline()
    for i in range(MANY):
        p.set(f"p:{i}", i).get(f"p:{i}")
    assert p.execute()[1::2] == [str(i).encode() for i in range(MANY)]


def several_keys(r):
    if isinstance(r, RedisCluster):
        assert r.mset_nonatomic({f"s:{i}": i for i in range(100)})
        assert r.mget_nonatomic([f"s:{i}" for i in range(100)]) == [str(i).encode() for i in range(100)]
    else:
        assert r.mset({f"s:{i}": i for i in range(100)})
        assert r.mget([f"s:{i}" for i in range(100)]) == [str(i).encode() for i in range(100)]
    assert r.delete(*(f"s:{i}" for i in range(100))) == 100


def scan(r):
    for i in range(1000):
        r.set(f"scan:{i}", i)
    assert {k for k in r.scan_iter(match="scan:*", count=100)} == {f"scan:{i}".encode() for i in range(1000)}


def scripts(r):
    double = r.register_script(DOUBLE)
    for i in range(30):  # keys on every node
        r.set(f"n:{i}", i)
        assert double(keys=[f"n:{i}"]) == 2 * i
    r.script_flush()
    assert double(keys=["n:7"]) == 14  # by SCRIPT LOAD, since EVALSHA fails
    sha = r.script_load("return {KEYS[1], ARGV[1]}")
    assert r.script_exists(sha) == [True]
    assert r.evalsha(sha, 1, "n:8", "x") == [b"n:8", b"x"]


def transactions(r):
    with r.pipeline() as p:
        assert p.set("{t}a", 1).incr("{t}a").get("{t}a").execute() == [True, 2, b"2"]
    with r.pipeline() as p:
        p.watch("{t}a")
        assert p.get("{t}a") == b"2"
        r.set("{t}a", 3)  # over another connection
        p.multi()
        p.set("{t}a", 4)
        raises(redis.WatchError, p.execute)
    assert r.get("{t}a") == b"3"
    assert r.transaction(lambda p: (p.multi(), p.incr("{t}a")), "{t}a") == [4]


def reconnects(r):
    with redis.Redis(HOST, PORT) as one:
        victim = one.client_id()
        assert r.client_kill_filter(_id=victim) == 1
        try:  # whether the first command finds the connection lost is a matter of time
            one.ping()
        except redis.ConnectionError:
            pass
        assert one.ping()
        assert one.client_id() != victim


def next_message(p):
    message = p.get_message(timeout=10)
    assert message, "no message"
    return message["type"], message["channel"], message["data"]


def pubsub(r):
    p = r.pubsub()
    p.subscribe("news")
    p.psubscribe("new*")
    assert next_message(p) == ("subscribe", b"news", 1)
    assert next_message(p) == ("psubscribe", b"new*", 2)
    assert r.publish("news", "hello") == 2
    assert sorted([next_message(p), next_message(p)]) == [("message", b"news", b"hello"), ("pmessage", b"news", b"hello")]
    assert r.pubsub_numsub("news") == [(b"news", 1)]
    p.ping()
    assert next_message(p)[0] == "pong"
    p.unsubscribe()
    p.punsubscribe()
    assert next_message(p) == ("unsubscribe", b"news", 1)
    assert next_message(p) == ("punsubscribe", b"new*", 0)
    p.close()


def blocking(r):
    pusher = threading.Thread(target=lambda: (r.set("b:ready", 1), r.rpush("b:list", "one", "two")))
    pusher.start()
    assert r.blpop("b:list", timeout=10) == (b"b:list", b"one")
    pusher.join()
    assert r.blpop("b:list", timeout=10) == (b"b:list", b"two")
    assert r.blpop("b:list", timeout=0.05) is None
    r.xgroup_create("b:stream", "g", mkstream=True)
    r.xadd("b:stream", {"f": "v"})
    ((_, entries),) = r.xreadgroup("g", "c", {"b:stream": ">"}, block=10_000)
    assert entries[0][1] == {b"f": b"v"}


def monitor(r):
    with r.monitor() as m:
        r.set("monitored", "v")
        for command in m.listen():
            if command["command"] == "SET monitored v":
                break


def databases():
    with redis.Redis(HOST, PORT, db=2) as r:
        r.set("in2", "v")
        assert r.get("in2") == b"v"
    with redis.Redis(HOST, PORT) as r:
        assert r.get("in2") is None


def users():
    with redis.Redis(HOST, PORT, username="app", password="app-secret", client_name="tester") as r:
        assert r.acl_whoami() == "app"
        assert r.client_getname() == "tester"
        raises(redis.exceptions.NoPermissionError, r.get, "other")
    with redis.Redis(HOST, PORT, username="app", password="wrong") as r:
        assert "WRONGPASS" in raises(redis.ResponseError, r.ping)


def locks(r):
    with r.lock("lock", timeout=10):
        assert not r.lock("lock", timeout=10).acquire(blocking=False)
    assert r.lock("lock", timeout=10).acquire(blocking=False)
    r.delete("lock")


async def concurrently():
    async with redis.asyncio.Redis(host=HOST, port=PORT) as r:
        assert await r.set("k", "v")
        assert await asyncio.gather(*(r.get("k") for _ in range(50))) == [b"v"] * 50
        async with r.pipeline(transaction=False) as p:
            for i in range(MANY):
                p.set(f"p:{i}", i).get(f"p:{i}")
            assert (await p.execute())[1::2] == [str(i).encode() for i in range(MANY)]
        async with r.pipeline() as p:
            await p.watch("{t}b")
            await r.set("{t}b", 1)
            p.multi()
            p.incr("{t}b")
            try:
                await p.execute()
                raise AssertionError("WATCH has not watched")
            except redis.WatchError:
                pass
        async with r.pubsub() as p:
            await p.subscribe("news")
            assert (await p.get_message(timeout=10))["type"] == "subscribe"
            await r.publish("news", "hello")
            assert (await p.get_message(timeout=10))["data"] == b"hello"
        popped = asyncio.create_task(r.blpop("b:async", timeout=10))
        await r.rpush("b:async", "one")
        assert await popped == (b"b:async", b"one")
        assert {k async for k in r.scan_iter(match="p:*", count=1000)} == {f"p:{i}".encode() for i in range(MANY)}
        assert await r.set("large", LARGE)
        assert await r.get("large") == LARGE


async def cluster_concurrently():
    async with AsyncCluster(host=HOST, port=PORT) as r:
        await asyncio.gather(*(r.set(f"c:{i}", i) for i in range(100)))
        assert await asyncio.gather(*(r.get(f"c:{i}") for i in range(100))) == [str(i).encode() for i in range(100)]


with redis.Redis(HOST, PORT) as client:
    client.flushall()
    for test in (values, pipelines, several_keys, scan, scripts, transactions, reconnects, pubsub, blocking, monitor, locks):
        test(client)
users()
asyncio.run(concurrently())
if MODE == "standalone":
    databases()
else:
    with RedisCluster(HOST, PORT) as client:
        client.flushall()
        for test in (values, pipelines, several_keys, scan, scripts, reconnects, blocking):
            test(client)
    asyncio.run(cluster_concurrently())
print("ok")

# Uses a Redis as applications with redis-rb do: ruby main.rb HOST PORT standalone|cluster
# frozen_string_literal: true

require "redis"

HOST = ARGV[0]
PORT = Integer(ARGV[1])
MODE = ARGV[2]
MANY = 10_000

def equal(got, want)
  raise "got #{got.inspect[0, 1000]}, want #{want.inspect[0, 1000]}" unless got == want
end

def fails(kind)
  yield
rescue kind => e
  e.message
else
  raise "#{kind} is not raised"
end

def connect(**options)
  Redis.new(host: HOST, port: PORT, **options)
end

def values(redis)
  redis.del("h")
  equal(redis.set("k", "v"), "OK")
  equal(redis.get("k"), "v")
  equal(redis.get("nothing"), nil)
  equal(redis.hset("h", "a", "1", "b", "2"), 2)
  equal(redis.hgetall("h"), { "a" => "1", "b" => "2" })
  fails(Redis::CommandError) { redis.lpush("k", "x") }
  large = "0123456789abcdef" * (4 << 20) # 64 MiB
  equal(redis.set("large", large), "OK")
  equal(redis.get("large") == large, true)
  redis.del("large")
end

def pipelines(redis)
  replies = redis.pipelined { |p| MANY.times { |i| p.set("p:#{i}", i); p.get("p:#{i}") } }
  MANY.times { |i| equal(replies[2 * i + 1], i.to_s) }
end

def scan(redis)
  equal(redis.scan_each(match: "p:*", count: 1000).to_a.uniq.size, MANY)
end

def scripts(redis)
  sha = redis.script(:load, "return {KEYS[1], ARGV[1]}")
  30.times { |i| equal(redis.evalsha(sha, ["n:#{i}"], ["x"]), ["n:#{i}", "x"]) } # keys on every node
end

def transactions(redis)
  equal(redis.multi { |t| t.set("{t}a", 1); t.incr("{t}a"); t.get("{t}a") }, ["OK", 2, "2"])
end

def watches(redis)
  redis.watch("{t}a") do
    connect.set("{t}a", 3)
    equal(redis.multi { |t| t.set("{t}a", 4) }, nil)
  end
  equal(redis.get("{t}a"), "3")
end

def pubsub(redis)
  heard = nil
  subscriber = connect
  subscriber.subscribe("news") do |on|
    on.subscribe { redis.publish("news", "hello") }
    on.message do |channel, message|
      heard = [channel, message]
      subscriber.unsubscribe
    end
  end
  equal(heard, %w[news hello])
  equal(subscriber.get("k"), "v") # it is an ordinary connection again
end

def blocking(redis)
  pusher = Thread.new { connect.rpush("b:list", "one") }
  equal(redis.blpop("b:list", timeout: 10), %w[b:list one])
  pusher.join
  equal(redis.blpop("b:list", timeout: 0.05), nil)
end

def reconnects(redis)
  id = redis.client(:id)
  equal(connect.client(:kill, "ID", id), 1)
  equal(redis.get("k"), "v")
  raise "the connection is the old one" if redis.client(:id) == id
end

def users
  redis = connect(username: "app", password: "app-secret", id: "tester")
  equal(redis.call("ACL", "WHOAMI"), "app")
  fails(Redis::CommandError) { redis.get("other") }
  fails(Redis::CommandError) { connect(username: "app", password: "wrong").ping }
end

redis = connect
redis.flushall
values(redis)
pipelines(redis)
scan(redis)
scripts(redis)
transactions(redis)
watches(redis)
pubsub(redis)
blocking(redis)
reconnects(redis)
users
if MODE == "standalone"
  second = connect(db: 2)
  second.set("in2", "v")
  equal(second.get("in2"), "v")
else
  cluster = Redis.new(cluster: ["redis://#{HOST}:#{PORT}"])
  values(cluster)
  pipelines(cluster)
  scan(cluster)
  scripts(cluster)
  transactions(cluster)
  blocking(cluster)
end
puts "ok"

<?php
// Uses a Redis as applications with phpredis do: php main.php HOST PORT standalone|cluster

declare(strict_types=1);

[, $host, $port, $mode] = $argv;
$port = (int) $port;
const MANY = 10000;

function equal(mixed $got, mixed $want): void
{
    if ($got !== $want) {
        throw new Exception('got ' . substr(var_export($got, true), 0, 1000) . ', want ' . substr(var_export($want, true), 0, 1000));
    }
}

function connect(): Redis
{
    global $host, $port;
    $redis = new Redis();
    $redis->connect($host, $port);
    return $redis;
}

function values(Redis|RedisCluster $redis): void
{
    $redis->del('h');
    equal($redis->set('k', 'v'), true);
    equal($redis->get('k'), 'v');
    equal($redis->get('nothing'), false);
    equal($redis->hMSet('h', ['a' => '1', 'b' => '2']), true);
    equal($redis->hGetAll('h'), ['a' => '1', 'b' => '2']);
    $large = str_repeat('0123456789abcdef', 4 << 20); // 64 MiB
    equal($redis->set('large', $large), true);
    equal($redis->get('large') === $large, true);
    $redis->del('large');
    $keys = array_map(fn ($i) => "s:$i", range(0, 99)); // on every node
    equal($redis->mset(array_fill_keys($keys, 'v')), true);
    equal($redis->mget($keys), array_fill(0, 100, 'v'));
    equal($redis->del($keys), 100);
}

function scripts(Redis|RedisCluster $redis, string $sha): void
{
    for ($i = 0; $i < 30; $i++) { // keys on every node
        equal($redis->evalSha($sha, ["n:$i", 'x'], 1), ["n:$i", 'x']);
    }
}

function transactions(Redis|RedisCluster $redis): void
{
    equal($redis->multi()->set('{t}a', '1')->incr('{t}a')->get('{t}a')->exec(), [true, 2, '2']);
    $redis->watch('{t}a');
    connect()->set('{t}a', '3');
    equal($redis->multi()->set('{t}a', '4')->exec(), $redis instanceof RedisCluster ? [false] : false); // its word for null
    equal($redis->get('{t}a'), '3');
}

function blocking(Redis|RedisCluster $redis): void
{
    global $argv;
    $pusher = proc_open([PHP_BINARY, __FILE__, $argv[1], $argv[2], 'push'], [], $pipes);
    equal($redis->blPop(['b:list'], 10), ['b:list', 'one']);
    proc_close($pusher);
    equal($redis->blPop(['b:list'], 1), []);
}

function pubsub(): void
{
    global $argv;
    $subscriber = proc_open([PHP_BINARY, __FILE__, $argv[1], $argv[2], 'subscribe'], [1 => ['pipe', 'w']], $pipes);
    $redis = connect();
    while ($redis->publish('news', 'hello') === 0) {
    }
    equal(fgets($pipes[1]), "new* news hello\n");
    proc_terminate($subscriber); // psubscribe does not return
    proc_close($subscriber);
}

if ($mode === 'push') { // once the other process waits
    $redis = connect();
    while (!str_contains((string) $redis->rawCommand('CLIENT', 'LIST'), 'flags=b')) {
    }
    $redis->rPush('b:list', 'one');
    exit;
}
if ($mode === 'subscribe') {
    connect()->psubscribe(['new*'], function ($redis, $pattern, $channel, $message) {
        echo "$pattern $channel $message\n";
    });
}

$redis = connect();
$redis->flushAll();
values($redis);
$pipeline = $redis->pipeline();
for ($i = 0; $i < MANY; $i++) {
    $pipeline->set("p:$i", (string) $i)->get("p:$i");
}
$replies = $pipeline->exec();
for ($i = 0; $i < MANY; $i++) {
    equal($replies[2 * $i + 1], (string) $i);
}
$seen = [];
$cursor = null;
while (($keys = $redis->scan($cursor, 'p:*', 1000)) !== false) {
    $seen += array_flip($keys);
}
equal(count($seen), MANY);
$sha = $redis->script('load', 'return {KEYS[1], ARGV[1]}');
scripts($redis, $sha);
transactions($redis);
pubsub();
blocking($redis);

$id = $redis->client('id');
equal(connect()->rawCommand('CLIENT', 'KILL', 'ID', (string) $id), 1);
equal($redis->get('k'), 'v'); // over a new connection
equal($redis->client('id') === $id, false);

$redis->auth(['app', 'app-secret']);
equal($redis->rawCommand('ACL', 'WHOAMI'), 'app');
$redis->close();

if ($mode === 'standalone') {
    $redis = connect();
    equal($redis->select(2), true);
    equal($redis->set('in2', 'v'), true);
    equal($redis->get('in2'), 'v');
} else {
    $cluster = new RedisCluster(null, ["$host:$port"]);
    equal($cluster->_masters(), [[$host, $port]]);
    values($cluster);
    scripts($cluster, $sha);
    transactions($cluster);
    blocking($cluster);
}
echo "ok\n";

package command

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// byName sorts entries as the snapshot has them. Flags are a set in RESP3.
func byName(entries []Entry) []Entry {
	compare := func(a, b Entry) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(entries, compare)
	for _, e := range entries {
		slices.SortFunc(e.Subcommands, compare)
	}
	return entries
}

func TestEntriesAreTheSameInBothProtocols(t *testing.T) {
	s := startServer(t)
	resp2 := byName(liveEntries(t, s))
	s.do1(t, "HELLO", "3")
	resp3 := byName(liveEntries(t, s))
	if len(resp2) < 200 {
		t.Fatalf("only %d commands", len(resp2))
	}
	if !reflect.DeepEqual(resp2, resp3) {
		t.Error("RESP2 and RESP3 give different entries")
	}
}

// TestSnapshotIsWhatTheServerSays compares every detail with a server of the
// snapshot's version, and with another version the positions of keys that both
// know: those do not change.
func TestSnapshotIsWhatTheServerSays(t *testing.T) {
	s := startServer(t)
	info := s.do1(t, "INFO", "server").(string)
	_, rest, _ := strings.Cut(info, "redis_version:")
	version, _, _ := strings.Cut(rest, "\r\n")
	snapshot, live := readSnapshot(), byName(liveEntries(t, s))
	if version == snapshot.Version {
		if !reflect.DeepEqual(byName(snapshot.Commands), live) {
			t.Errorf("snapshot.json is not what Redis %s says: run go generate", version)
		}
		return
	}
	liveTable := New(live)
	common := 0
	for _, want := range Snapshot().All() {
		if got := liveTable.Named(want.Name); got != nil {
			common++
			if got.FirstKey() != want.FirstKey() {
				t.Errorf("%s: the first key is at %d in Redis %s, at %d in the snapshot", want.Name, got.FirstKey(), version, want.FirstKey())
			}
		}
	}
	if common < 200 {
		t.Errorf("Redis %s and the snapshot have only %d commands in common", version, common)
	}
}

func TestEveryLiveCommandIsClassified(t *testing.T) {
	s := startServer(t)
	entries := liveEntries(t, s)
	table := New(entries)
	for _, e := range entries {
		for _, each := range append([]Entry{e}, e.Subcommands...) {
			info := table.Named(each.Name)
			if info == nil {
				t.Errorf("%s is not in the table", each.Name)
				continue
			}
			checkConsistent(t, info)
		}
	}
}

// checkConsistent checks what must hold of any Info, whatever a server says.
func checkConsistent(t *testing.T, i *Info) {
	t.Helper()
	if i.Handling == 0 {
		t.Errorf("%s has no Handling", i.Name)
	}
	if i.Handling == Local && i.Action == ActionNone || i.Action != ActionNone && i.Handling != Local && i.Handling != Private {
		t.Errorf("%s: Handling %v with Action %v", i.Name, i.Handling, i.Action)
	}
	if (i.Handling == Private) != (i.Reason != ReasonNone) {
		t.Errorf("%s: Handling %v with Reason %v", i.Name, i.Handling, i.Reason)
	}
	if merged := i.Handling == Split || i.Handling == AllShards || i.Handling == AllNodes; merged && i.Response == ResponseSpecial {
		t.Errorf("%s: Handling %v cannot merge special replies", i.Name, i.Handling)
	}
	if i.Handling == Split && (i.KeyStep == 0 || i.FirstKey() == 0) {
		t.Errorf("%s: Split with first key %d, step %d", i.Name, i.FirstKey(), i.KeyStep)
	}
	if i.Write && i.ReadOnly {
		t.Errorf("%s is Write and ReadOnly", i.Name)
	}
}

// keyShapes are commands as people write them, one for each way to name keys.
const keyShapes = `
get k
set k v
set k v ex 10 get
mset a 1 b 2 c 3
mset a 1 b
msetnx a 1 b 2
mget a b c
del a b
bitop and dest a b
bitop not dest a
bitfield k get u8 0 set u8 0 1
lcs a b idx
blpop a b 0
rpoplpush a b
brpoplpush a b 0
blmove a b left right 0
lmpop 2 a b left count 3
lmpop 3 a b left
blmpop 0 2 a b left
zmpop 1 a min
bzmpop 0 2 a b max count 1
sintercard 2 a b limit 1
sinter a b c
sinterstore d a b
sunionstore d a
sdiffstore d a b
zunion 2 a b withscores
zinter 2 a b weights 1 2
zdiff 1 a
zintercard 2 a b limit 5
zunionstore d 2 a b weights 1 2 aggregate sum
zinterstore d 1 a
zdiffstore d 2 a b
zrangestore d s 0 -1
geosearchstore d s fromlonlat 1 1 byradius 1 m
georadius k 1 1 1 m
georadius k 1 1 1 m store d
georadius k 1 1 1 m count 5 storedist d
georadius k 1 1 1 m store
georadiusbymember k m 1 m store d
georadius_ro k 1 1 1 m
sort k
sort k by w_* limit 0 10 get # get o_* asc alpha store d
sort k store a store b
sort k by store get x
sort k limit store 1
sort_ro k by w_*
eval return 0
eval return 2 a b x
evalsha 0123 1 a x y
eval_ro return 1 a
evalsha_ro 0123 0 x
fcall f 2 a b x
fcall_ro f 1 a
xread streams a 0
xread count 1 block 0 streams a b 0 0
xread streams streams 0
xreadgroup group g c streams a b > >
xreadgroup group streams c streams a >
xadd s * f v
xgroup create s g $ mkstream
xgroup setid s g 0
xgroup createconsumer s g c
xgroup delconsumer s g c
xgroup destroy s g
xinfo stream s full
xinfo groups s
xinfo consumers s g
xautoclaim s g c 0 0
object encoding k
object freq k
memory usage k samples 5
pfcount a b
pfmerge d a b
rename a b
renamenx a b
copy a b replace
smove a b m
lmove a b left right
watch a b c
dump k
restore k 0 x
restore-asking k 0 x
move k 1
migrate h 1 k 0 10 copy replace
migrate h 1 k 0 10 auth keys
migrate h 1 EMPTY 0 10 copy keys a b c
migrate h 1 EMPTY 0 10 auth keys keys a b
migrate h 1 EMPTY 0 10 auth2 u keys keys a
migrate h 1 k 0 10 keys a b
migrate h 1 EMPTY 0 10 keys
zunionstore d 9 a b
zunionstore d 2x a b
zunionstore d -1 a b
zunionstore d EMPTY a b
zunionstore d 9223372036854775807 a b
zunionstore d 9223372036854775808 a b
zunionstore d 4294967298 a b
zunionstore d -4294967294 a b
eval s -9223372036854775808 a
eval s +1 a
eval s \t1 a
ping
config get x
flushall
`

func TestAppendKeysAgreesWithTheServer(t *testing.T) {
	s := startServer(t)
	table := New(liveEntries(t, s))

	var corpus [][]string
	shaped := make(map[string]bool)
	for line := range strings.Lines(keyShapes) {
		args := strings.Fields(line)
		for n, arg := range args {
			args[n] = strings.ReplaceAll(strings.ReplaceAll(arg, "EMPTY", ""), `\t`, "\t")
		}
		if len(args) > 0 {
			corpus = append(corpus, args)
			shaped[table.Find(bytesOf(args)).Name] = true
		}
	}
	for _, info := range table.All() {
		movable := len(info.specs) > 0 && info.FirstKey() == 0 || info.finder != 0 || len(info.specs) > 1
		if movable && !shaped[info.Name] {
			t.Errorf("%s has keys that move and no shape in the corpus", info.Name)
		}
		corpus = append(corpus, randomCalls(info, 100)...)
	}
	compareKeys(t, s, table, corpus)
}

// randomCalls makes calls of a command from the words that steer the search for keys.
func randomCalls(info *Info, n int) [][]string {
	words := []string{
		"", "0", "1", "2", "3", "-1", "2x", " 2", "9223372036854775807", "a", "b", "c", "{a}", "\xff\x00",
		"STREAMS", "streams", "STORE", "storedist", "KEYS", "auth", "AUTH2", "block", "count", "group", "by", "GET", "limit",
	}
	random := rand.New(rand.NewPCG(7, uint64(info.ID)))
	calls := make([][]string, n)
	for i := range calls {
		call := strings.Split(info.Name, "|")
		least := max(info.Arity, -info.Arity)
		for len(call) < least || info.Arity < 0 && random.IntN(5) > 0 && len(call) < least+8 {
			call = append(call, words[random.IntN(len(words))])
		}
		calls[i] = call
	}
	return calls
}

// compareKeys compares AppendKeys with COMMAND GETKEYS.
func compareKeys(t *testing.T, s *server, table *Table, corpus [][]string) {
	t.Helper()
	outcomes := make(map[string]int)
	for batch := range slices.Chunk(corpus, 200) {
		asked := make([][]string, len(batch))
		for i, args := range batch {
			asked[i] = append([]string{"COMMAND", "GETKEYS"}, args...)
		}
		for i, reply := range s.do(t, asked...) {
			args := batch[i]
			info := table.Find(bytesOf(args))
			indices, err := info.AppendKeys(nil, bytesOf(args))
			if err != nil {
				t.Fatalf("%q: %v", args, err)
			}
			got := keysAt(args, indices)
			switch reply := reply.(type) {
			case []any:
				outcomes["keys"]++
				want := make([]string, len(reply))
				for n := range reply {
					want[n] = reply[n].(string)
				}
				slices.Sort(want) // the server's order depends on which of its two ways found them
				if !slices.Equal(got, want) {
					t.Errorf("%q: keys %q, the server says %q", args, got, want)
				}
			case replyError:
				outcomes[string(reply)]++
				if len(got) > 0 && !info.Channels && !isPFMergeOfNothing(args) && info.Action != ActionClose {
					t.Errorf("%q: keys %q, the server says %q", args, got, reply)
				}
			default:
				t.Errorf("%q: reply %v", args, reply)
			}
		}
	}
	for _, outcome := range []string{"keys", "ERR Invalid arguments specified for command", "ERR The command has no key arguments"} {
		if outcomes[outcome] < 100 {
			t.Errorf("only %d of %d with the outcome %q", outcomes[outcome], len(corpus), outcome)
		}
	}
	t.Log(outcomes)
}

// isPFMergeOfNothing tells the one call of which GETKEYS is wrong: PFMERGE dest,
// which writes dest, is refused by it, since its second key spec finds nothing.
func isPFMergeOfNothing(args []string) bool {
	return strings.EqualFold(args[0], "pfmerge") && len(args) == 2
}

func bytesOf(args []string) [][]byte {
	b := make([][]byte, len(args))
	for i, arg := range args {
		b[i] = []byte(arg)
	}
	return b
}

// keysAt returns the arguments at indices, sorted.
func keysAt(args []string, indices []int) []string {
	keys := make([]string, len(indices))
	for n, index := range indices {
		keys[n] = args[index]
	}
	slices.Sort(keys)
	return keys
}

// TestUnlistedClose shows that the server closes the connection on what it
// does not list, which is why the session must not relay it.
func TestUnlistedClose(t *testing.T) {
	for _, unlisted := range unlisted {
		name := unlisted.Name
		s := startServer(t)
		for _, e := range liveEntries(t, s) {
			if e.Name == name {
				t.Errorf("the server lists %q", name)
			}
		}
		fmt.Fprintf(s.conn, "*1\r\n$%d\r\n%s\r\n", len(name), name)
		if reply, err := s.read(); err == nil {
			t.Errorf("%q: the server answers %v", name, reply)
		}
		if info := Snapshot().Lookup([]byte(strings.ToUpper(name))); info == nil || info.Action != ActionClose {
			t.Errorf("%q: %+v, want ActionClose", name, info)
		}
	}
}

package command

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// FuzzAppendKeys gives commands hostile arguments: whatever they are, the keys
// are among them and none is named twice by one spec.
func FuzzAppendKeys(f *testing.F) {
	for line := range strings.Lines(keyShapes) {
		f.Add([]byte(strings.ReplaceAll(strings.TrimSpace(line), " ", "\n")))
	}
	for _, number := range []string{"9223372036854775807", "-9223372036854775808", "-1", "", "0", "4294967295", "1e3", "0x2"} {
		f.Add([]byte("eval\ns\n" + number + "\na"))
		f.Add([]byte("zunionstore\nd\n" + number + "\na"))
		f.Add([]byte("lmpop\n" + number))
	}
	table := Snapshot()
	f.Fuzz(func(t *testing.T, text []byte) {
		args := bytes.Split(text, []byte("\n"))
		info := table.Find(args)
		if info == nil {
			return
		}
		info.Blocks(args)
		checkKeys(t, info, args)
	})
}

func checkKeys(t *testing.T, info *Info, args [][]byte) {
	t.Helper()
	before := []int{-7}
	keys, err := info.AppendKeys(before, args)
	if (err != nil) != info.AskKeys {
		t.Fatalf("%q: %v", args, err)
	}
	if len(keys) == 0 || keys[0] != -7 {
		t.Fatalf("%q: what dst held is gone: %v", args, keys)
	}
	if len(keys)-1 > max(1, len(info.specs))*len(args) {
		t.Fatalf("%q: %d keys", args, len(keys)-1)
	}
	for _, at := range keys[1:] {
		if at < 1 || at >= len(args) {
			t.Fatalf("%q: a key at %d", args, at)
		}
	}
	if first := info.FirstKey(); first > 0 && info.ArityOK(len(args)) && info.SingleKey && (len(keys) != 2 || keys[1] != first) {
		t.Fatalf("%q: keys %v, but a single one at %d", args, keys[1:], first)
	}
	checkLeadingKeys(t, info, args, keys[1:])
}

// checkLeadingKeys holds that what is known of a command by its first arguments is still so when the rest has come.
func checkLeadingKeys(t *testing.T, info *Info, args [][]byte, whole []int) {
	t.Helper()
	for n := range len(args) + 1 {
		keys, all := info.AppendLeadingKeys(nil, args[:n], len(args))
		switch {
		case all && !slices.Equal(keys, whole):
			t.Fatalf("%q: keys %v, but %v by the first %d arguments", args, whole, keys, n)
		case !all && n == len(args) && !info.AskKeys:
			t.Fatalf("%q: there are none to come", args)
		}
		for _, at := range keys {
			if at < 1 || at >= n {
				t.Fatalf("%q: a key at %d of the first %d arguments", args, at, n)
			}
		}
	}
}

// FuzzNew gives the table a hostile server: whatever COMMAND says, there is an
// error or a table that works.
func FuzzNew(f *testing.F) {
	f.Add([]byte(`[["get",2,["readonly"],1,1,1,[],[],[{"flags":["RO"],"begin_search":{"type":"index","spec":{"index":1}},"find_keys":{"type":"range","spec":{"lastkey":0,"keystep":1,"limit":0}}}],[]]]`), []byte("get k"))
	f.Add([]byte(`[["x",-1,[],0,0,0,[],[],[{"flags":[],"begin_search":{"type":"index","spec":{"index":9223372036854775807}},"find_keys":{"type":"keynum","spec":{"keynumidx":9223372036854775807,"firstkey":1,"keystep":9223372036854775807}}}],[]]]`), []byte("x 1 2"))
	f.Add([]byte(`[["x",-1,[],-1,-9223372036854775808,-1,[],[],[],[["x|y",0,[],1,1,1],["y",0,[],1,1,1],["x|y",0,[],1,1,1]]],["X",1,[],0,0,0],["",1,[],0,0,0],["a|b",1,[],0,0,0]]`), []byte("x y"))
	f.Add([]byte(`[["x",-1,["movablekeys"],0,0,0,[],["request_policy:multi_shard"],[["flags",[],"begin_search",["type","keyword","spec",["keyword","K","startfrom",-1]],"find_keys",["type","range","spec",["lastkey",-1,"keystep",0,"limit",3]]]]]]`), []byte("x a K b c"))
	f.Fuzz(func(t *testing.T, reply, call []byte) {
		var decoded any
		if json.Unmarshal(reply, &decoded) != nil {
			return
		}
		entries, err := Entries(decoded)
		if err != nil {
			return
		}
		table := New(entries)
		for id, info := range table.All() {
			if info.ID != id || table.Named(info.Name) != info {
				t.Fatalf("%q is not found by its name", info.Name)
			}
			checkConsistent(t, info)
		}
		args := bytes.Split(call, []byte(" "))
		if info := table.Find(args); info != nil {
			info.Blocks(args)
			checkKeys(t, info, args)
		}
	})
}

package upstream

import (
	"encoding/json"
	"net"
	"reflect"
	"strings"
	"testing"
)

func TestNewTopology(t *testing.T) {
	type list = []any
	from := asked{host: "redis.example", ip: "10.0.0.9"}
	whole := func(node list) any { return list{list{int64(0), int64(16383), node}} }
	for _, test := range []struct {
		name     string
		reply    any
		nodes    []Node
		replicas []Node
	}{
		{"address", whole(list{"10.0.0.1", int64(6379), "a", list{}}), []Node{{"10.0.0.1:6379", "a"}}, nil},
		{"Redis 3, without an ID", whole(list{"10.0.0.1", int64(6379)}), []Node{{"10.0.0.1:6379", ""}}, nil},
		{"IPv6", whole(list{"fd00::1", int64(6379), "a"}), []Node{{"[fd00::1]:6379", "a"}}, nil},
		{"hostname preferred", whole(list{"node-1.example", int64(6379), "a", list{"ip", "10.0.0.1"}}), []Node{{"node-1.example:6379", "a"}}, nil},
		{"unknown endpoint", whole(list{nil, int64(6380), "a", map[string]any{"ip": "10.0.0.1"}}), []Node{{"redis.example:6380", "a"}}, nil},
		{"own address unknown", whole(list{"", int64(6379), "a", list{}}), []Node{{"10.0.0.9:6379", "a"}}, nil},
		{"hostname preferred, none set, RESP3", whole(list{"?", int64(6379), "a", map[string]any{"ip": "10.0.0.1"}}), []Node{{"10.0.0.1:6379", "a"}}, nil},
		{"hostname preferred, none set, RESP2", whole(list{"?", int64(6379), "a", list{"ip", "10.0.0.1"}}), []Node{{"10.0.0.1:6379", "a"}}, nil},
		{"hostname preferred, nothing known", whole(list{"?", int64(6379), "a", list{}}), []Node{{"10.0.0.9:6379", "a"}}, nil},
		{"no slots assigned", list{}, nil, nil},
		{
			"by first slot, replicas once, a replica without a port left out",
			list{
				list{int64(100), int64(200), list{"h2", int64(2), "b"}, list{"h3", int64(3), "c"}},
				list{int64(0), int64(99), list{"h1", int64(1), "a"}, list{"h4", int64(0), "d"}},
				list{int64(300), int64(300), list{"h2", int64(2), "b"}, list{"h3", int64(3), "c"}},
			},
			[]Node{{"h1:1", "a"}, {"h2:2", "b"}},
			[]Node{{"h3:3", "c"}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := newTopology(test.reply, from)
			if err != nil {
				t.Fatal(err)
			}
			if !got.Cluster || !reflect.DeepEqual(got.Nodes, test.nodes) || !reflect.DeepEqual(got.Replicas, test.replicas) {
				t.Errorf("nodes %v, replicas %v, want %v and %v", got.Nodes, got.Replicas, test.nodes, test.replicas)
			}
		})
	}
}

func TestNewTopologySlots(t *testing.T) {
	type list = []any
	got, err := newTopology(list{
		list{int64(10), int64(20), list{"h2", int64(2), "b"}},
		list{int64(0), int64(9), list{"h1", int64(1), "a"}},
		list{int64(16383), int64(16383), list{"h1", int64(1), "a"}},
	}, asked{})
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[uint16]string{0: "h1:1", 9: "h1:1", 10: "h2:2", 20: "h2:2", 16383: "h1:1"} {
		if n, ok := got.node(s); !ok || n.Addr != want {
			t.Errorf("slot %d at %v, want %s", s, n, want)
		}
	}
	for _, s := range []uint16{21, 16382} {
		if n, ok := got.node(s); ok {
			t.Errorf("slot %d at %v, want nobody", s, n)
		}
	}
}

func TestNewTopologyRefuses(t *testing.T) {
	type list = []any
	node := list{"h", int64(1), "a"}
	for want, reply := range map[string]any{
		"a string where a list":  "OK",
		"a range of slots is 7":  list{int64(7)},
		"from -1 to 5":           list{list{int64(-1), int64(5), node}},
		"from 0 to 16384":        list{list{int64(0), int64(16384), node}},
		"from 5 to 4":            list{list{int64(5), int64(4), node}},
		"from a to 4":            list{list{"a", int64(4), node}},
		"want host and port":     list{list{int64(0), int64(4), list{"h"}}},
		"a node's port is 65536": list{list{int64(0), int64(4), list{"h", int64(65536)}}},
		"a node's port is 0":     list{list{int64(0), int64(4), list{"h", int64(0)}}},
		"a node's host is 5":     list{list{int64(0), int64(4), list{int64(5), int64(6379)}}},
		"a node's host is <nil>": list{list{int64(0), int64(4), list{nil, int64(6379)}}}, // and the asked one unknown
	} {
		if _, err := newTopology(reply, asked{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

// Whatever a node answers, the topology made of it has valid indexes and addresses that can be dialled.
func FuzzNewTopology(f *testing.F) {
	f.Add(`[[0,16383,["10.0.0.1",6379,"a",[]],["10.0.0.2",6379,"b",[]]]]`)
	f.Add(`[[0,5,["?",6379,"a",{"ip":"::1"}]],[7,16383,["",1,"b",["ip","x"]]]]`)
	f.Add(`[[0,5,[null,65535]],[3,4,["h:h",1,7,"x"]]]`)
	f.Add(`[[0,5,[[],1]]]`)
	f.Add(`{"a":1}`)
	f.Fuzz(func(t *testing.T, text string) {
		var reply any
		if json.Unmarshal([]byte(text), &reply) != nil {
			return
		}
		got, err := newTopology(integers(reply), asked{host: "h", ip: "::1"})
		if err != nil {
			return
		}
		for s, index := range got.Slots {
			if index < -1 || int(index) >= len(got.Nodes) {
				t.Fatalf("slot %d at node %d of %d", s, index, len(got.Nodes))
			}
		}
		for _, n := range append(got.Replicas, got.Nodes...) {
			if host, port, err := net.SplitHostPort(n.Addr); err != nil || host == "" || port == "0" {
				t.Fatalf("address %q: %v", n.Addr, err)
			}
		}
	})
}

// integers makes the numbers of decoded JSON what rueidis gives.
func integers(v any) any {
	switch v := v.(type) {
	case float64:
		return int64(v)
	case []any:
		for i := range v {
			v[i] = integers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = integers(v[k])
		}
	}
	return v
}

func TestTopologyEqual(t *testing.T) {
	one, same, moved, cluster := standalone("h:1"), standalone("h:1"), standalone("h:1"), standalone("h:1")
	moved.Slots[5] = -1
	cluster.Cluster = true
	for _, test := range []struct {
		a, b *Topology
		want bool
	}{
		{one, same, true},
		{one, standalone("h:2"), false},
		{one, moved, false},
		{one, cluster, false},
		{one, nil, false},
		{nil, one, false},
		{nil, nil, true},
	} {
		if got := test.a.Equal(test.b); got != test.want {
			t.Errorf("%v equals %v: %v", test.a, test.b, got)
		}
	}
}

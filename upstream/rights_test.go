package upstream

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"readthrough/internal/lease"
)

var someNeeds = []Need{
	{Map: "user-profile", Prefix: []byte("usr:profile:"), Example: []byte("usr:profile:7")},
	{Map: "user-orders", Prefix: []byte("usr:orders:"), Example: []byte("usr:orders:7")},
}

func TestCheckRightsCluster(t *testing.T) {
	noLeaks(t)
	nodes := startCluster(t, "127.0.0.1", 2, 1)
	opts := &Options{
		Addresses: []string{nodes[0].addr()}, ClientName: "ours",
		Credentials: (&password{user: "app", text: "pw"}).credentials,
	}
	check := func() Rights {
		t.Helper()
		rights, err := CheckRights(context.Background(), opts, someNeeds)
		if err != nil {
			t.Fatal(err)
		}
		return rights
	}
	eventually(t, 20*time.Second, "the cluster tells of its replicas", func() bool {
		for _, n := range nodes {
			for _, other := range nodes {
				if !strings.Contains(n.cli("CLUSTER", "SLOTS"), strconv.Itoa(other.port)) {
					return false
				}
			}
		}
		return true
	})
	// Only the keys of one map, without SET, and not even that on the last replica.
	for _, n := range nodes {
		n.cli("ACL", "SETUSER", "app", "on", ">pw", "~usr:profile:*", "-@all", "+get", "+pttl", "+type", "+cluster", "+ping", "+command", "+client", "+asking")
	}
	nodes[3].cli("ACL", "SETUSER", "app", "-ping")
	rights := check()
	var got []string
	for _, m := range rights.Missing {
		if !strings.Contains(m.Reason, "NOPERM") {
			t.Errorf("reason %q", m.Reason)
		}
		got = append(got, fmt.Sprintf("%s %s %s %s", m.Node, m.Command, m.Map, m.Grant))
	}
	var want []string
	for _, n := range nodes {
		if n == nodes[3] {
			want = append(want, n.addr()+" ping  +ping")
		}
		want = append(want,
			n.addr()+" get user-orders ~usr:orders:*", n.addr()+" pttl user-orders ~usr:orders:*", n.addr()+" type user-orders ~usr:orders:*",
			n.addr()+" time  +time")
		for _, m := range []string{"user-profile", "user-orders"} {
			want = append(want, n.addr()+" get "+m+" ~readthrough:lease:*")
			for _, command := range []string{"set", "del", "eval", "evalsha", "exists", "unlink"} {
				want = append(want, fmt.Sprintf("%s %s %s +%s", n.addr(), command, m, command))
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("missing\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	const rule = "ACL SETUSER app on ><password> resetkeys resetchannels ~readthrough:lease:* ~usr:orders:* ~usr:profile:* -@all " +
		"+asking +client|setname +cluster|info +cluster|nodes +cluster|slots +command +del +eval +evalsha +exists +get +ping +pttl +set " +
		"+time +type +unlink"
	if rights.User != "app" || rights.Rule != rule {
		t.Errorf("user %q, rule\n%s\nwant\n%s", rights.User, rights.Rule, rule)
	}

	// The rule, followed word by word, is enough for the check and for the work, and for no more.
	for _, n := range nodes {
		n.cli("ACL", "DELUSER", "app")
		n.cli(strings.Fields(strings.Replace(rights.Rule, "<password>", "pw", 1))...)
	}
	if rights := check(); len(rights.Missing) != 0 {
		t.Errorf("missing after granting the rule: %+v", rights.Missing)
	}
	f := discover(t, opts)
	f.await(t)
	eventually(t, 5*time.Second, "a table", func() bool { return f.table() != nil })
	leases := newLeases(f.clients, f.topology, f.Refresh)
	if stored, err := store(leases, "usr:profile:7"); err != nil || !stored {
		t.Errorf("stored %v, %v: the check must not have set the key", stored, err)
	}
	if _, err := Inspect(context.Background(), opts, []byte("usr:orders:7")); err != nil {
		t.Error(err)
	}
	if _, err := store(leases, "other"); !errors.Is(err, lease.ErrRefused) || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("a key of no map: %v", err)
	}
}

func TestCheckRightsStandalone(t *testing.T) {
	noLeaks(t)
	server := startRedis(t, "127.0.0.1", "--rename-command", "PING", "")
	rights, err := CheckRights(context.Background(), &Options{Addresses: []string{server.addr()}, Database: 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	const rule = "ACL SETUSER default on ><password> resetkeys resetchannels -@all +command +ping +select"
	if rights.User != "default" || rights.Rule != rule {
		t.Errorf("user %q, rule %q, want %q", rights.User, rights.Rule, rule)
	}
	if len(rights.Missing) != 1 {
		t.Fatalf("missing %+v, want the renamed command", rights.Missing)
	}
	if m := rights.Missing[0]; m.Command != "ping" || !strings.Contains(m.Reason, "unknown command") || m.Grant != "" {
		t.Errorf("missing %+v, want the renamed command", m)
	}
	if size := server.cli("DBSIZE"); size != "0" {
		t.Errorf("the check left %s keys", size)
	}
}

// A user who may not even see the topology gets a list of rights, not an error.
func TestCheckRightsWithoutCluster(t *testing.T) {
	noLeaks(t)
	nodes := startCluster(t, "127.0.0.1", 1, 0)
	nodes[0].cli("ACL", "SETUSER", "app", "on", ">pw")
	rights, err := CheckRights(context.Background(), &Options{
		Addresses: []string{nodes[0].addr()}, Credentials: (&password{user: "app", text: "pw"}).credentials,
	}, someNeeds[:1])
	if err != nil {
		t.Fatal(err)
	}
	var grants []string
	for _, m := range rights.Missing {
		grants = append(grants, m.Grant)
	}
	slices.Sort(grants)
	want := []string{
		"+asking", "+cluster|info", "+cluster|nodes", "+cluster|slots", "+command", "+del", "+eval", "+evalsha", "+exists",
		"+get", "+ping", "+pttl", "+set", "+time", "+type", "+unlink",
	}
	if !reflect.DeepEqual(grants, want) || rights.User != "app" {
		t.Errorf("user %q, grants %v, want %v", rights.User, grants, want)
	}
}

func TestCheckRightsErrors(t *testing.T) {
	noLeaks(t)
	server := startRedis(t, "127.0.0.1", "--requirepass", "pw")
	_, err := CheckRights(context.Background(), &Options{Addresses: []string{server.addr()}}, nil)
	if err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("error %v", err)
	}
}

func TestPattern(t *testing.T) {
	for prefix, want := range map[string]string{
		"":                    "*",
		"usr:profile:":        "usr:profile:*",
		"usr:{":               "usr:{*",
		"a*b?c[d\\e":          "a\\*b\\?c\\[d\\\\e*",
		"with blank\tand\x00": "with?blank?and?*",
	} {
		if got := pattern([]byte(prefix)); got != want {
			t.Errorf("pattern of %q is %q, want %q", prefix, got, want)
		}
	}
}

// The pattern admits the keys of the prefix and no others, as Redis reads it.
func TestPatternInRedis(t *testing.T) {
	noLeaks(t)
	server := startRedis(t, "127.0.0.1")
	const prefix = "a*b?c[d]e\\f-g^h:"
	server.cli("ACL", "SETUSER", "app", "on", "nopass", "+get", "~"+pattern([]byte(prefix)))
	for key, want := range map[string]bool{prefix + "1": true, prefix: true, "aXb?c[d]e\\f-g^h:1": false, "a*bXc[d]e\\f-g^h:1": false, "other": false} {
		if got := server.cli("ACL", "DRYRUN", "app", "GET", key) == "OK"; got != want {
			t.Errorf("%q allowed: %v, want %v", key, got, want)
		}
	}
}

package readthrough

import (
	"testing"

	"readthrough/test/harness"
)

// TestUserWithoutRights holds that a client's own user gets by a miss only what he may read.
func TestUserWithoutRights(t *testing.T) {
	w := &world{
		cluster: harness.NewCluster(t, harness.ClusterOptions{RedisOptions: harness.RedisOptions{
			Config: []string{"user app on >app-secret ~orders:* +get +ping"},
		}}),
		db: newDatabase(t),
	}
	w.sidecar = harness.NewSidecar(t, harness.SidecarOptions{
		Config: config(w.cluster.Addrs()...) + maps, Env: []string{"ORIGIN_URL=" + w.db.URL()},
	})
	c := harness.NewConn(t, w.sidecar.Addr())
	replyIs(t, c, "+OK\r\n", "AUTH", "app", "app-secret")
	asked := w.queries(t, "")
	replyIs(t, c, "-NOPERM this user has no permissions to access one of the keys used as arguments\r\n", "GET", "user:7")
	if n := w.queries(t, "") - asked; n != 0 {
		t.Errorf("%d queries for a key that the user may not read", n)
	}
	replyIs(t, c, bulk(`[{"id":3,"total":0.01}]`), "GET", "orders:8")
	if got := w.redis(t, "orders:8", "EXISTS", "orders:8").Str; got != "1" {
		t.Error("the value is not filled in, though the sidecar's own user may")
	}
}

// TestOtherDatabase holds that only the configured database reads through.
func TestOtherDatabase(t *testing.T) {
	redis, db := harness.NewRedis(t, harness.RedisOptions{}), newDatabase(t)
	s := harness.NewSidecar(t, harness.SidecarOptions{
		Config: "apiVersion: readthrough/v1\nupstream: {addresses: [" + redis.Addr() + "], database: 2}\n" +
			"origins: [{name: main, url: \"${ORIGIN_URL}\"}]\n" + maps,
		Env: []string{"ORIGIN_URL=" + db.URL()},
	})
	c := harness.NewConn(t, s.Addr())
	replyIs(t, c, bulk(user7), "GET", "user:7")
	replyIs(t, c, "+OK\r\n", "SELECT", "0")
	replyIs(t, c, "$-1\r\n", "GET", "user:7")
	replyIs(t, c, "$-1\r\n", "GET", "user:8")
	replyIs(t, c, "+OK\r\n", "SELECT", "2")
	replyIs(t, c, bulk(user8), "GET", "user:8")
	replyIs(t, c, "+RESET\r\n", "RESET")
	replyIs(t, c, ":2\r\n", "DBSIZE")
}

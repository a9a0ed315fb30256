package harness

import (
	"context"
	"fmt"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Getenv("HARNESS_TEST_PARENT") != "" {
		parent()
		return
	}
	Main(m)
}

// parent starts servers, says so and waits to be killed; see TestServersDieWithTheirParent.
func parent() {
	ctx := context.Background()
	r, err := StartRedis(ctx, RedisOptions{})
	if err != nil {
		panic(err)
	}
	pg, err := StartPostgres(ctx, PostgresOptions{})
	if err != nil {
		panic(err)
	}
	fmt.Println("started", r.Pid(), pg.Pid(), r.dir.path, pg.dir.path)
	select {}
}

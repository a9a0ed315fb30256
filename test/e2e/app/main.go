// App is the application of the tests on Kubernetes: a Redis client as any other, which knows one address and nothing of what
// stands there. It is the only program in its image, so it also does what a shell would.
//
//	app do COMMAND ARG...   sends one command and prints the answer
//	app serve KEY           reads the key, over and over, and tells every second how that went; see serve.go
//	app big BYTES           SETs a value of that size, GETs it and compares
//	app kill PROGRAM        kills the processes of that name, in a pod that shares them
//
// REDIS_ADDRESS is where Redis is, localhost:6380 if unset; REDIS_PASSWORD the password, if any.
package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

const usage = "usage: app do COMMAND ARG... | serve KEY | big BYTES | kill PROGRAM"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, args []string) error {
	if len(args) < 2 {
		return errors.New(usage)
	}
	client := redis.NewClient(&redis.Options{
		Addr:     cmp.Or(os.Getenv("REDIS_ADDRESS"), "localhost:6380"),
		Password: os.Getenv("REDIS_PASSWORD"),
	})
	defer client.Close()
	switch args[0] {
	case "do":
		return do(ctx, out, client, args[1:])
	case "serve":
		return serve(ctx, out, client, args[1])
	case "big":
		size, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return big(ctx, out, client, size)
	case "kill":
		return kill(out, args[1])
	}
	return errors.New(usage)
}

// do prints what a command answers; a null is "(nil)".
func do(ctx context.Context, out io.Writer, client *redis.Client, args []string) error {
	words := make([]any, len(args))
	for i, a := range args {
		words[i] = a
	}
	answer, err := client.Do(ctx, words...).Result()
	if errors.Is(err, redis.Nil) {
		answer, err = "(nil)", nil
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(out, answer)
	return nil
}

// big sends a value there and back.
func big(ctx context.Context, out io.Writer, client *redis.Client, size int) error {
	const key, patience = "e2e:big", 2 * time.Minute
	client = redis.NewClient(&redis.Options{
		Addr: client.Options().Addr, Password: client.Options().Password,
		ReadTimeout: patience, WriteTimeout: patience, MaxRetries: -1,
	})
	defer client.Close()
	value := make([]byte, size)
	if _, err := rand.NewChaCha8([32]byte{}).Read(value); err != nil {
		return err
	}
	began := time.Now()
	if err := client.Set(ctx, key, value, 0).Err(); err != nil {
		return fmt.Errorf("SET of %d bytes: %w", size, err)
	}
	written := time.Now()
	want := sha256.Sum256(value)
	got, err := client.Get(ctx, key).Bytes()
	if err != nil {
		return fmt.Errorf("GET of %d bytes: %w", size, err)
	}
	if len(got) != size || sha256.Sum256(got) != want {
		return fmt.Errorf("GET of %d bytes gives %d other ones", size, len(got))
	}
	fmt.Fprintf(out, "%d bytes: SET in %v, GET in %v\n", size, written.Sub(began).Round(time.Millisecond), time.Since(written).Round(time.Millisecond))
	return client.Del(ctx, key).Err()
}

package harness

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

func TestConnReadsWholeReplies(t *testing.T) {
	c := NewConn(t, NewRedis(t, RedisOptions{}).Addr())
	if got := c.MustDo(t, "SET", "k", "a\r\nb"); got != "+OK\r\n" {
		t.Errorf("SET: %q", got)
	}
	if got := c.MustDo(t, "GET", "none"); got != "$-1\r\n" {
		t.Errorf("GET of nothing in RESP2: %q", got)
	}
	if got := c.MustDo(t, "HELLO", "3"); !strings.HasPrefix(got, "%7\r\n$6\r\nserver\r\n") {
		t.Errorf("HELLO 3: %q", got)
	}
	// Several replies in one packet, of which each is read alone.
	if err := c.Send([]byte("GET none\r\nGET k\r\nSUBSCRIBE ch\r\nPING\r\n")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"_\r\n", "$4\r\na\r\nb\r\n", ">3\r\n$9\r\nsubscribe\r\n$2\r\nch\r\n:1\r\n", "+PONG\r\n"} {
		if got, err := c.ReadReply(); err != nil || string(got) != want {
			t.Errorf("read %q, %v; want %q", got, err, want)
		}
	}
	c.Timeout = 10 * time.Millisecond
	if got, err := c.ReadReply(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("no reply: %q, %v", got, err)
	}
	c.Timeout = 10 * time.Second
	c.MustDo(t, "QUIT")
	if got, err := c.ReadReply(); !errors.Is(err, io.EOF) || len(got) > 0 {
		t.Errorf("after QUIT: %q, %v", got, err)
	}
}

func TestRedisOptions(t *testing.T) {
	ca := MustCA(t)
	cases := map[string]RedisOptions{
		"plain":       {},
		"password":    {Password: "sesame"},
		"TLS":         {CA: ca},
		"mutual TLS":  {CA: ca, ClientCerts: true, Password: "sesame"},
		"more config": {Config: []string{"maxmemory 10mb", "user app on >secret ~app:* +@all"}},
	}
	if HasIPv6() {
		cases["IPv6"] = RedisOptions{IPv6: true}
	}
	for name, o := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := NewRedis(t, o)
			r.MustDo(t, "SET", "k", "v")
			if v := r.MustDo(t, "GET", "k"); v.Str != "v" {
				t.Errorf("GET = %+v", v)
			}
			if o.IPv6 != strings.HasPrefix(r.Addr(), "[::1]:") {
				t.Errorf("address %s", r.Addr())
			}
			if o.Password != "" {
				bare, err := Dial(t.Context(), r.Addr(), r.TLSConfig())
				if err != nil {
					t.Fatal(err)
				}
				defer bare.Close()
				if got := bare.MustDo(t, "PING"); !strings.HasPrefix(got, "-NOAUTH ") {
					t.Errorf("without the password: %q", got)
				}
			}
			if o.ClientCerts {
				config := r.TLSConfig().Clone()
				config.Certificates = nil
				bare, err := Dial(t.Context(), r.Addr(), config)
				if err == nil { // TLS 1.3 refuses after the client's side of the handshake
					_, err = bare.Do("PING")
					_ = bare.Close()
				}
				if err == nil {
					t.Error("a client without a certificate was served")
				}
			}
			if len(o.Config) > 0 {
				if v := r.MustDo(t, "CONFIG", "GET", "maxmemory"); v.Elems[1].Str != "10485760" {
					t.Errorf("maxmemory = %v", v.Strings())
				}
				if _, err := r.Do(t.Context(), "AUTH", "app", "secret"); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestRedisRestartsAtItsAddress(t *testing.T) {
	r := NewRedis(t, RedisOptions{})
	addr, pid := r.Addr(), r.Pid()
	r.MustDo(t, "SET", "k", "v")
	r.Kill()
	if _, err := r.Do(t.Context(), "PING"); err == nil {
		t.Error("a killed server answers")
	}
	if err := r.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.Addr() != addr || r.Pid() == pid {
		t.Errorf("restarted at %s as process %d, before at %s as %d", r.Addr(), r.Pid(), addr, pid)
	}
	if v := r.MustDo(t, "GET", "k"); !v.Null {
		t.Errorf("a server that saves nothing remembers %+v", v)
	}
}

func TestPausedRedisHangs(t *testing.T) {
	r := NewRedis(t, RedisOptions{})
	c := NewConn(t, r.Addr())
	c.MustDo(t, "PING")
	if err := r.Pause(); err != nil {
		t.Fatal(err)
	}
	c.Timeout = 50 * time.Millisecond
	if _, err := c.Do("PING"); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a paused server: %v", err)
	}
	if err := r.Resume(); err != nil {
		t.Fatal(err)
	}
	c.Timeout = 10 * time.Second
	if got, err := c.ReadReply(); err != nil || string(got) != "+PONG\r\n" {
		t.Errorf("after Resume: %q, %v", got, err)
	}
}

func TestRedisThatCannotStartSaysWhy(t *testing.T) {
	_, err := StartRedis(t.Context(), RedisOptions{Config: []string{"no-such-setting 1"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-setting") {
		t.Errorf("error: %v", err)
	}
	if _, err := NewRedis(t, RedisOptions{}).Do(t.Context(), "NOSUCH"); !errors.As(err, new(ReplyError)) {
		t.Errorf("an error reply is %v", err)
	}
}

package bearerredis_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearerredis"
	"example.com/bearer/bearertest"
	"github.com/redis/go-redis/v9"
)

// A cluster of two nodes: the keys of one token are in different slots, and also
// on different nodes.
func TestCluster(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	args := []string{"--cluster-enabled", "yes", "--cluster-node-timeout", "500"}
	nodes := []*server{newServer(t, args...), newServer(t, args...)}
	host, port, _ := net.SplitHostPort(nodes[1].addr)
	for i, node := range nodes {
		client := node.client(t)
		if err := client.ClusterAddSlotsRange(ctx, i*8192, i*8192+8191).Err(); err != nil {
			t.Fatal(err)
		}
		if err := client.ClusterMeet(ctx, host, port).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, node := range nodes {
		client := node.client(t)
		eventually(t, "the cluster", func() bool {
			info := client.ClusterInfo(ctx).Val()
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_slots_ok:16384")
		})
	}
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{nodes[0].addr}})
	t.Cleanup(func() { cluster.Close() })
	store := bearerredis.New(cluster, "cluster")

	var fresh atomic.Int32
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			ok, err := store.Add(ctx, "proof", time.Hour)
			if err != nil {
				t.Error(err)
			}
			if ok {
				fresh.Add(1)
			}
		})
	}
	all.Wait()
	if got := fresh.Load(); got != 1 {
		t.Errorf("%d of 100 calls with one key were told that it is fresh, want 1", got)
	}
	if err := store.Put(ctx, issuerURL, []byte(`{"keys":[]}`)); err != nil {
		t.Error(err)
	}
	if data, err := store.Get(ctx, issuerURL); err != nil || string(data) != `{"keys":[]}` {
		t.Errorf("Get = %q, %v, want what was put", data, err)
	}

	iss := newIssuer(t, issuerURL)
	var revoked []*bearer.Claims
	for i := range 30 {
		id := fmt.Sprint(i)
		c := iss.claims(t, bearertest.Claims{"jti": "J" + id, "sub": "S" + id, "sid": "D" + id})
		if got, err := store.Revoked(ctx, c); err != nil || got {
			t.Errorf("before: Revoked = %v, %v, want false", got, err)
		}
		revoke := []func() error{
			func() error { return store.RevokeToken(ctx, issuerURL, "J"+id, c.ExpiresAt) },
			func() error { return store.RevokeSubject(ctx, issuerURL, "S"+id, time.Now(), time.Hour) },
			func() error { return store.RevokeSession(ctx, issuerURL, "D"+id, time.Hour) },
		}
		if err := revoke[i%3](); err != nil {
			t.Error(err)
		}
		if got, err := store.Revoked(ctx, c); err != nil || !got {
			t.Errorf("after: Revoked = %v, %v, want true", got, err)
		}
		revoked = append(revoked, c)
	}
	for _, node := range nodes {
		if n, err := node.client(t).DBSize(ctx).Result(); err != nil || n == 0 {
			t.Errorf("the node at %s has %d keys (%v), want some", node.addr, n, err)
		}
	}

	// Half of the slots are gone. No answer is an answer for want of one.
	nodes[1].kill()
	var failed atomic.Int32
	for _, c := range revoked {
		all.Go(func() {
			got, err := store.Revoked(ctx, c)
			if err != nil {
				failed.Add(1)
			} else if !got {
				t.Error("with a node gone: Revoked = false for a token that was revoked")
			}
		})
	}
	all.Wait()
	if failed.Load() == 0 {
		t.Error("with a node gone: Revoked has no error")
	}
}

// Sentinel makes a replica the primary when that is gone. Until then there are
// errors, and afterwards what the replica had.
func TestFailOver(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	primary := newServer(t)
	host, port, _ := net.SplitHostPort(primary.addr)
	replica := newServer(t, "--replicaof", host+" "+port)
	eventually(t, "replication", func() bool {
		return strings.Contains(primary.client(t).Info(ctx, "replication").Val(), "state=online")
	})
	conf := filepath.Join(t.TempDir(), "sentinel.conf")
	text := fmt.Sprintf("sentinel monitor api %s %s 1\nsentinel down-after-milliseconds api 200\nsentinel failover-timeout api 3000\n", host, port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel := newServer(t, conf, "--sentinel")
	eventually(t, "the sentinel to know the replica", func() bool {
		c := redis.NewSentinelClient(&redis.Options{Addr: sentinel.addr})
		defer c.Close()
		return len(c.Replicas(ctx, "api").Val()) == 1
	})

	client := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "api", SentinelAddrs: []string{sentinel.addr}})
	t.Cleanup(func() { client.Close() })
	store := bearerredis.New(client, "failover")
	c := newIssuer(t, issuerURL).claims(t, nil)
	if err := store.RevokeToken(ctx, issuerURL, c.ID, c.ExpiresAt); err != nil {
		t.Fatal(err)
	}
	if fresh, err := store.Add(ctx, "proof", time.Hour); err != nil || !fresh {
		t.Fatalf("Add = %v, %v, want true", fresh, err)
	}
	eventually(t, "the replica to have both", func() bool {
		return replica.client(t).DBSize(ctx).Val() == 2
	})

	primary.kill()
	errors := 0
	eventually(t, "the replica to take over", func() bool {
		revoked, err := store.Revoked(ctx, c)
		if err != nil {
			errors++
			return false
		}
		if !revoked {
			t.Fatal("a token that was revoked before the fail-over is not after it")
		}
		return true
	})
	if errors == 0 {
		t.Error("no error while there was no primary")
	}
	eventually(t, "the replica to take writes", func() bool {
		fresh, err := store.Add(context.Background(), "proof", time.Hour)
		if fresh {
			t.Fatal("a proof that was used before the fail-over is fresh after it")
		}
		return err == nil
	})
}

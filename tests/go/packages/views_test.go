package packages

import (
	"context"
	"fmt"
	"sort"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"go.etcd.io/etcd/client/v3/ordering"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	. "quorate/tests/harness"
)

// Keys that a client leases are answered from its memory until another one writes them.
func TestLeasedKeys(t *testing.T) {
	onBoth(t, func(s *scene) {
		one, closeOne, err := leasing.NewKV(s.client, "leases/")
		s.must(err)
		defer closeOne()
		two, closeTwo, err := leasing.NewKV(Client(s.t, s.side.Server), "leases/")
		s.must(err)
		defer closeTwo()
		s.put("a", "1")
		get := func(name string, kv clientv3.KV, key string) {
			got, err := kv.Get(s.ctx, key)
			s.must(err)
			s.note(name, shown(got.Kvs), got.Header.Revision)
		}
		get("leased", one, "a")
		get("from memory", one, "a")
		get("another's", two, "a")
		_, err = two.Put(s.ctx, "a", "2")
		s.must(err)
		get("after another's write", one, "a")
		_, err = one.Put(s.ctx, "a", "3")
		s.must(err)
		get("after its own", one, "a")
		txn, err := one.Txn(s.ctx).If(clientv3.Compare(clientv3.Value("a"), "=", "3")).
			Then(clientv3.OpPut("a", "4"), clientv3.OpGet("a")).Else(clientv3.OpGet("a")).Commit()
		s.must(err)
		s.note("transaction", txn.Succeeded, len(txn.Responses))
		get("seen by the other", two, "a")
		_, err = two.Delete(s.ctx, "a")
		s.must(err)
		get("deleted", one, "a")
		all, err := one.Get(s.ctx, "a", clientv3.WithPrefix())
		s.must(err)
		s.note("range", shown(all.Kvs))
	})
}

func TestMirror(t *testing.T) {
	onBoth(t, func(s *scene) {
		// More than one page of the syncer.
		const keys = 1100
		for n := range keys / 100 {
			var puts []clientv3.Op
			for m := range 100 {
				puts = append(puts, clientv3.OpPut(fmt.Sprintf("m/%04d", n*100+m), "v"))
			}
			_, err := s.client.Txn(s.ctx).Then(puts...).Commit()
			s.must(err)
		}
		syncer := mirror.NewSyncer(s.client, "m/", 0)
		pages, failed := syncer.SyncBase(s.ctx)
		total := 0
		for page := range pages {
			total += len(page.Kvs)
			s.note("page", len(page.Kvs), page.More, page.Header.Revision)
		}
		s.must(<-failed)
		s.note("keys", total)
		updates := syncer.SyncUpdates(s.ctx)
		s.put("m/new", "1")
		s.put("other", "1")
		_, err := s.client.Delete(s.ctx, "m/0000")
		s.must(err)
		for seen := 0; seen < 2; {
			update := receive(s, updates)
			seen += len(update.Events)
			for _, event := range update.Events {
				s.note("update", happened([]*clientv3.Event{event}))
			}
		}
		old := mirror.NewSyncer(s.client, "m/", 3)
		pages, failed = old.SyncBase(s.ctx)
		total = 0
		for page := range pages {
			total += len(page.Kvs)
		}
		s.must(<-failed)
		s.note("at an older revision", total)
	})
}

// A reader that was answered by one store does not go back to an older one.
func TestOrderedReads(t *testing.T) {
	onBoth(t, func(s *scene) {
		behind := Single(s.t, s.binary)
		violations := 0
		kv := ordering.NewKV(s.client.KV, func(clientv3.Op, clientv3.OpResponse, int64) error {
			violations++
			return ordering.ErrNoGreaterRev
		})
		s.put("a", "1")
		s.put("a", "2")
		got, err := kv.Get(s.ctx, "a")
		s.must(err)
		s.note("read", shown(got.Kvs), violations)
		s.client.SetEndpoints(behind.ClientURL)
		s.must(Within(ReadyLimit, func() error {
			reply, err := s.client.Get(s.ctx, "a")
			if err == nil && reply.Header.Revision != 1 {
				err = Wanted("still the store at revision %d", reply.Header.Revision)
			}
			return err
		}))
		_, err = kv.Get(s.ctx, "a")
		s.note("from the store behind", err, violations)
		_, err = kv.Txn(s.ctx).Then(clientv3.OpGet("a")).Commit()
		s.note("transaction", err, violations)
		_, err = kv.Get(s.ctx, "a", clientv3.WithSerializable())
		s.note("its own copy", err, violations)
	})
}

func TestNamespaces(t *testing.T) {
	onBoth(t, func(s *scene) {
		kv := namespace.NewKV(s.client.KV, "space/")
		watcher := namespace.NewWatcher(s.client.Watcher, "space/")
		leases := namespace.NewLease(s.client.Lease, "space/")
		defer watcher.Close()
		events := watcher.Watch(clientv3.WithRequireLeader(s.ctx), "", clientv3.WithPrefix(), clientv3.WithRev(2), clientv3.WithPrevKV())
		s.put("outside", "1")
		lease, err := leases.Grant(s.ctx, 60)
		s.must(err)
		_, err = kv.Put(s.ctx, "a", "1", clientv3.WithLease(lease.ID))
		s.must(err)
		s.put("space0", "1")
		txn, err := kv.Txn(s.ctx).If(clientv3.Compare(clientv3.Value("a"), "=", "1")).
			Then(clientv3.OpPut("b", "2"), clientv3.OpGet("", clientv3.WithPrefix()),
				clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpDelete("none")}, nil)).Commit()
		s.must(err)
		s.note("transaction", txn.Succeeded, shown(txn.Responses[1].GetResponseRange().Kvs))
		within, err := kv.Get(s.ctx, "", clientv3.WithFromKey())
		s.must(err)
		s.note("within", shown(within.Kvs))
		outside, err := s.client.Get(s.ctx, "", clientv3.WithPrefix())
		s.must(err)
		s.note("outside", shown(outside.Kvs))
		left, err := leases.TimeToLive(s.ctx, lease.ID, clientv3.WithAttachedKeys())
		s.must(err)
		s.note("leased", fmt.Sprintf("%q", left.Keys))
		_, err = leases.Revoke(s.ctx, lease.ID)
		s.must(err)
		for seen := 0; seen < 3; {
			response := receive(s, events)
			seen += len(response.Events)
			for _, event := range response.Events {
				s.note("event", happened([]*clientv3.Event{event}), event.PrevKv != nil)
			}
		}
		_, err = kv.Get(s.ctx, "")
		s.note("no key", err)
	})
}

func TestKubernetesInterface(t *testing.T) {
	onBoth(t, func(s *scene) {
		client, err := kubernetes.New(clientv3.Config{Endpoints: []string{s.side.Server.ClientURL}})
		s.must(err)
		defer client.Close()
		store := client.Kubernetes
		put := func(name, key, value string, revision int64, onFailure bool) {
			reply, err := store.OptimisticPut(s.ctx, key, []byte(value), revision, kubernetes.PutOptions{GetOnFailure: onFailure})
			s.note(name, reply.Succeeded, reply.Revision, one(reply.KV), err)
		}
		put("created", "/pods/a", "1", 0, false)
		put("created again", "/pods/a", "2", 0, true)
		put("updated", "/pods/a", "2", 2, false)
		put("updated from an old revision", "/pods/a", "3", 2, true)
		put("updated, missing", "/pods/none", "3", 2, true)
		for n := range 7 {
			put("made", fmt.Sprintf("/pods/n%d", n), "v", 0, false)
		}
		got, err := store.Get(s.ctx, "/pods/a", kubernetes.GetOptions{Revision: 2})
		s.note("older", one(got.KV), got.Revision, err)
		_, err = store.Get(s.ctx, "/pods/a", kubernetes.GetOptions{Revision: 100})
		s.note("future", err)
		options := kubernetes.ListOptions{Limit: 3}
		for page, more := 0, true; more; page++ {
			list, err := store.List(s.ctx, "/pods/", options)
			s.must(err)
			s.note("page", page, shown(list.Kvs), list.Count, list.Revision)
			more = int64(len(list.Kvs)) < list.Count
			options.Revision, options.Continue = list.Revision, string(list.Kvs[len(list.Kvs)-1].Key)+"\x00"
			if page == 0 {
				put("between pages", "/pods/n9", "v", 0, false)
			}
		}
		count, err := store.Count(s.ctx, "/pods/", kubernetes.CountOptions{})
		s.note("count", count, err)
		for _, revision := range []int64{2, 3, 3} {
			reply, err := store.OptimisticDelete(s.ctx, "/pods/a", revision, kubernetes.DeleteOptions{GetOnFailure: true})
			s.note("deleted", reply.Succeeded, reply.Revision, one(reply.KV), err)
		}
		_, err = client.Compact(s.ctx, 6)
		s.must(err)
		_, err = store.List(s.ctx, "/pods/", kubernetes.ListOptions{Revision: 4})
		s.note("compacted", err)
	})
}

// Programs find each other by the addresses that they keep in the store.
func TestNaming(t *testing.T) {
	onBoth(t, func(s *scene) {
		manager, err := endpoints.NewManager(s.client, "service")
		s.must(err)
		updates, err := manager.NewWatchChannel(s.ctx)
		s.must(err)
		address := s.side.Server.Endpoint()
		session := s.session()
		s.must(manager.AddEndpoint(s.ctx, "service/one", endpoints.Endpoint{Addr: address, Metadata: "m"}, clientv3.WithLease(session.Lease())))
		s.must(manager.Update(s.ctx, []*endpoints.UpdateWithOpts{
			endpoints.NewAddUpdateOpts("service/two", endpoints.Endpoint{Addr: "other"}),
			endpoints.NewAddUpdateOpts("service/three", endpoints.Endpoint{Addr: "another"}),
		}))
		s.must(manager.DeleteEndpoint(s.ctx, "service/two"))
		s.must(manager.DeleteEndpoint(s.ctx, "service/three"))
		s.note("outside", manager.AddEndpoint(s.ctx, "elsewhere/one", endpoints.Endpoint{Addr: "x"}))
		var seen []string
		for len(seen) < 5 {
			for _, update := range receive(s, updates) {
				seen = append(seen, fmt.Sprint(update.Op, " ", update.Key, " ", update.Endpoint.Addr == address, update.Endpoint.Metadata))
			}
		}
		s.note("updates", seen)
		list, err := manager.List(s.ctx)
		s.must(err)
		var names []string
		for name := range list {
			names = append(names, name)
		}
		sort.Strings(names)
		s.note("list", names)
		builder, err := resolver.NewBuilder(s.client)
		s.must(err)
		conn, err := grpc.NewClient("etcd:///service", grpc.WithResolvers(builder), grpc.WithTransportCredentials(insecure.NewCredentials()))
		s.must(err)
		defer conn.Close()
		reply, err := pb.NewKVClient(conn).Range(s.ctx, &pb.RangeRequest{Key: []byte("service/one")}, grpc.WaitForReady(true))
		s.must(err)
		s.note("through the name", reply.Count)
		s.must(session.Close())
		gone := receive(s, updates)
		s.note("gone with its lease", gone[0].Op, gone[0].Key)
	})
}

// The client's own watches, leases and calls go on through a restart of the server.
func TestThroughARestart(t *testing.T) {
	onBoth(t, func(s *scene) {
		events := s.client.Watch(s.ctx, "", clientv3.WithPrefix())
		session := s.session()
		_, err := s.client.Put(s.ctx, "kept", "1", clientv3.WithLease(session.Lease()))
		s.must(err)
		s.note("before", happened(receive(s, events).Events))
		s.side.Server.Kill()
		s.side.Server.Start("", "new")
		ctx, cancel := context.WithTimeout(s.ctx, ReadyLimit)
		defer cancel()
		s.must(Within(ReadyLimit, func() error {
			_, err := s.client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision("after"), "=", 0)).
				Then(clientv3.OpPut("after", "1")).Commit()
			return err
		}))
		s.note("what was missed", happened(receive(s, events).Events))
		kept, err := s.client.KeepAliveOnce(s.ctx, session.Lease())
		s.must(err)
		s.note("the lease", kept.TTL)
		s.must(session.Close())
		s.note("what comes then", happened(receive(s, events).Events))
	})
}

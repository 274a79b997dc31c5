package packages

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"

	. "quorate/tests/harness"
)

func TestSessions(t *testing.T) {
	onBoth(t, func(s *scene) {
		// It asks for its lease every third of this.
		session := s.session(concurrency.WithTTL(6))
		left, err := s.client.TimeToLive(s.ctx, session.Lease())
		s.must(err)
		s.note("granted", left.GrantedTTL)
		_, err = s.client.Revoke(s.ctx, session.Lease())
		s.must(err)
		select {
		case <-session.Done():
			s.note("ends with its lease", session.Ctx().Err())
		case <-s.ctx.Done():
			s.must(s.ctx.Err())
		}
		orphan := s.session(concurrency.WithTTL(30))
		orphan.Orphan()
		left, err = s.client.TimeToLive(s.ctx, orphan.Lease())
		s.must(err)
		s.note("an orphan's lease stays", left.TTL > 0)
		again := s.session(concurrency.WithLease(orphan.Lease()))
		s.must(again.Close())
		left, err = s.client.TimeToLive(s.ctx, orphan.Lease())
		s.must(err)
		s.note("closed", left.TTL)
		_, err = concurrency.NewSession(s.client, concurrency.WithLease(4711))
		s.note("on no lease", err)
	})
}

func TestMutexes(t *testing.T) {
	onBoth(t, func(s *scene) {
		one, two := s.session(), s.session()
		defer two.Close()
		mine, theirs := concurrency.NewMutex(one, "mutex"), concurrency.NewMutex(two, "mutex")
		s.must(mine.Lock(s.ctx))
		s.note("taken", mine.Header().Revision, mine.Key() == fmt.Sprintf("mutex/%x", one.Lease()))
		s.note("not taken", theirs.TryLock(s.ctx))
		owned, err := s.client.Txn(s.ctx).If(mine.IsOwner()).Then(clientv3.OpPut("guarded", "1")).Commit()
		s.must(err)
		s.note("owner", owned.Succeeded)
		waiting := make(chan error, 1)
		go func() { waiting <- theirs.Lock(s.ctx) }()
		s.awaitCount("mutex/", 2)
		s.must(mine.Unlock(s.ctx))
		s.must(receive(s, waiting))
		s.note("given on", theirs.Header().Revision)
		s.note("unlocked twice", mine.Unlock(s.ctx))
		// The holder's end frees the lock.
		next := concurrency.NewMutex(one, "mutex")
		go func() { waiting <- next.Lock(s.ctx) }()
		s.awaitCount("mutex/", 2)
		s.must(two.Close())
		s.must(receive(s, waiting))
		s.must(one.Close())
		s.note("of an ended session", mine.Lock(s.ctx))
		locker := concurrency.NewLocker(s.session(), "locker")
		locker.Lock()
		s.note("locker", s.count("locker/"))
		locker.Unlock()
		s.note("unlocked", s.count("locker/"))
	})
}

func TestElections(t *testing.T) {
	onBoth(t, func(s *scene) {
		one, two := s.session(), s.session()
		defer two.Close()
		first, second := concurrency.NewElection(one, "vote"), concurrency.NewElection(two, "vote")
		_, err := first.Leader(s.ctx)
		s.note("no leader", err)
		s.note("proclaimed by none", first.Proclaim(s.ctx, "x"))
		observed := second.Observe(s.ctx)
		s.must(first.Campaign(s.ctx, "one"))
		s.note("first", first.Rev(), first.Header().Revision)
		s.note("observed", string(receive(s, observed).Kvs[0].Value))
		waiting := make(chan error, 1)
		go func() { waiting <- second.Campaign(s.ctx, "two") }()
		s.awaitCount("vote/", 2)
		s.must(first.Proclaim(s.ctx, "again"))
		s.note("observed", string(receive(s, observed).Kvs[0].Value))
		resumed := concurrency.ResumeElection(one, "vote", first.Key(), first.Rev())
		s.must(resumed.Proclaim(s.ctx, "resumed"))
		s.note("observed", string(receive(s, observed).Kvs[0].Value))
		leader, err := second.Leader(s.ctx)
		s.must(err)
		s.note("leader", string(leader.Kvs[0].Value), leader.Kvs[0].CreateRevision)
		s.must(resumed.Resign(s.ctx))
		s.must(receive(s, waiting))
		s.note("observed", string(receive(s, observed).Kvs[0].Value), second.Rev())
		s.note("proclaimed by who resigned", first.Proclaim(s.ctx, "x"))
		s.must(one.Close())
	})
}

func TestSoftwareTransactions(t *testing.T) {
	levels := map[string]concurrency.Isolation{
		"serializable snapshot": concurrency.SerializableSnapshot, "serializable": concurrency.Serializable,
		"repeatable reads": concurrency.RepeatableReads, "read committed": concurrency.ReadCommitted,
	}
	for name, level := range levels {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(s *scene) {
				const workers, turns = 4, 5
				s.put("a", "x")
				var wait sync.WaitGroup
				for range workers {
					wait.Go(func() {
						for range turns {
							move := func(stm concurrency.STM) error {
								stm.Put("a", stm.Get("a")+"x")
								if stm.Rev("b") == 0 {
									stm.Put("b", "1")
								} else {
									stm.Del("b")
								}
								return nil
							}
							if _, err := concurrency.NewSTM(s.client, move, concurrency.WithIsolation(level),
								concurrency.WithAbortContext(s.ctx), concurrency.WithPrefetch("a")); err != nil {
								s.t.Error(err)
							}
						}
					})
				}
				wait.Wait()
				got, err := s.client.Get(s.ctx, "a")
				s.must(err)
				// Two that read committed values only may overwrite each other.
				if level != concurrency.ReadCommitted {
					s.note("all counted", shown(got.Kvs), len(got.Kvs[0].Value) == workers*turns+1)
				}
				refusal := errors.New("no")
				_, err = concurrency.NewSTM(s.client, func(concurrency.STM) error { return refusal })
				s.note("given up", err)
				reply, err := concurrency.NewSTM(s.client, func(stm concurrency.STM) error {
					stm.Put("c", stm.Get("none"))
					return nil
				}, concurrency.WithIsolation(level))
				s.must(err)
				s.note("one more", reply.Succeeded)
			})
		})
	}
}

func TestBarriers(t *testing.T) {
	onBoth(t, func(s *scene) {
		barrier := recipe.NewBarrier(s.client, "barrier")
		s.must(barrier.Hold())
		s.note("held twice", barrier.Hold())
		waiting := make(chan error, 1)
		go func() { waiting <- recipe.NewBarrier(s.client, "barrier").Wait() }()
		s.must(barrier.Release())
		s.must(receive(s, waiting))
		s.note("free", barrier.Wait())

		const size = 3
		entered, left := make(chan error, size), make(chan error, size)
		leave := make(chan struct{})
		for range size {
			session := s.session()
			go func() {
				double := recipe.NewDoubleBarrier(session, "double", size)
				entered <- double.Enter()
				<-leave
				left <- double.Leave()
				session.Close()
			}()
		}
		for range size {
			s.must(receive(s, entered))
		}
		s.note("within", s.count("double/waiters"), s.count("double/ready"))
		s.note("too many", recipe.NewDoubleBarrier(s.session(), "double", size).Enter())
		close(leave)
		for range size {
			s.must(receive(s, left))
		}
		s.awaitCount("double/waiters", 0)
	})
}

func TestQueues(t *testing.T) {
	onBoth(t, func(s *scene) {
		queue := recipe.NewQueue(s.client, "queue")
		for n := range 5 {
			s.must(queue.Enqueue(fmt.Sprint(n)))
		}
		for range 5 {
			value, err := queue.Dequeue()
			s.note("taken", value, err)
		}
		taken := make(chan string, 1)
		go func() {
			value, err := queue.Dequeue()
			taken <- fmt.Sprint(value, err)
		}()
		s.must(queue.Enqueue("late"))
		s.note("waited for", receive(s, taken))

		ranked := recipe.NewPriorityQueue(s.client, "ranked")
		for n, rank := range []uint16{7, 1, 7, 3, 65535, 0} {
			s.must(ranked.Enqueue(fmt.Sprint(n), rank))
		}
		for range 6 {
			value, err := ranked.Dequeue()
			s.note("by rank", value, err)
		}
		s.note("left", s.count("queue"), s.count("ranked"))
	})
}

func TestReadWriteLocks(t *testing.T) {
	onBoth(t, func(s *scene) {
		one, two, three := s.session(), s.session(), s.session()
		reader, other, writer := recipe.NewRWMutex(one, "rw"), recipe.NewRWMutex(two, "rw"), recipe.NewRWMutex(three, "rw")
		s.must(reader.RLock())
		s.must(other.RLock())
		s.note("two read", s.count("rw/"))
		wrote := make(chan error, 1)
		go func() { wrote <- writer.Lock() }()
		s.awaitCount("rw/", 3)
		s.must(reader.RUnlock())
		s.must(other.RUnlock())
		s.must(receive(s, wrote))
		read := make(chan error, 1)
		go func() { read <- reader.RLock() }()
		s.awaitCount("rw/", 2)
		s.note("one writes", len(read))
		s.must(writer.Unlock())
		s.must(receive(s, read))
		s.must(reader.RUnlock())
		for _, session := range []*concurrency.Session{one, two, three} {
			s.must(session.Close())
		}
		s.put("waited/for", "1")
		event, err := recipe.WaitPrefixEvents(s.client, "waited/", 1, []mvccpb.Event_EventType{mvccpb.Event_PUT})
		s.must(err)
		s.note("event", happened([]*clientv3.Event{event}))
		s.must(Within(ReadyLimit, func() error {
			if s.count("rw/") != 0 {
				return Wanted("locks are left")
			}
			return nil
		}))
	})
}

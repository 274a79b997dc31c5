// Package packages drives the packages that come with etcd's Go client, beside the client itself, against real etcd and
// ours: what a program sees through them must be the same.
package packages

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	. "quorate/tests/harness"
)

// sceneLimit bounds one scene: every wait in it ends with its context.
const sceneLimit = 90 * time.Second

// scene is one of the two servers with a client of its own, and what was seen there.
type scene struct {
	t      *testing.T
	side   *Side
	client *clientv3.Client
	ctx    context.Context
	binary string // the program that the server runs
}

// onBoth runs the script on a fresh server of each kind and compares what it noted.
func onBoth(t *testing.T, script func(s *scene)) {
	t.Helper()
	pair := NewPair(t)
	pair.Both(t, func(t *testing.T, side *Side) {
		ctx, cancel := context.WithTimeout(t.Context(), sceneLimit)
		defer cancel()
		binary := Programs(t).Server
		if side == pair.Peer {
			binary = Programs(t).Peer
		}
		script(&scene{t, side, Client(t, side.Server), ctx, binary})
	})
}

// note records what is to be the same on both sides.
func (s *scene) note(asked string, seen ...any) {
	s.side.Note(asked, strings.TrimSpace(fmt.Sprintln(seen...)))
}

// must ends the scene on an error that no comparison is about.
func (s *scene) must(err error) {
	s.t.Helper()
	Must(s.t, err)
}

// session opens a session that ends with the test.
func (s *scene) session(options ...concurrency.SessionOption) *concurrency.Session {
	s.t.Helper()
	session, err := concurrency.NewSession(s.client, options...)
	s.must(err)
	return session
}

// receive takes one value from a channel; it fails when the scene's time is over or the channel is closed.
func receive[T any](s *scene, channel <-chan T) T {
	s.t.Helper()
	select {
	case value, open := <-channel:
		if !open {
			s.must(Wanted("the channel is closed"))
		}
		return value
	case <-s.ctx.Done():
		s.must(s.ctx.Err())
		panic("ended above")
	}
}

// count is the number of keys with the prefix.
func (s *scene) count(prefix string) int64 {
	s.t.Helper()
	reply, err := s.client.Get(s.ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	s.must(err)
	return reply.Count
}

// awaitCount waits until as many keys have the prefix.
func (s *scene) awaitCount(prefix string, count int64) {
	s.t.Helper()
	s.must(Within(ReadyLimit, func() error {
		if found := s.count(prefix); found != count {
			return Wanted("%d keys under %s, not %d", found, prefix, count)
		}
		return nil
	}))
}

func (s *scene) put(key, value string) {
	s.t.Helper()
	_, err := s.client.Put(s.ctx, key, value)
	s.must(err)
}

// shown is a list of keys with their values and revisions.
func shown(kvs []*mvccpb.KeyValue) string {
	var parts []string
	for _, kv := range kvs {
		parts = append(parts, fmt.Sprintf("%q=%q %d/%d/%d", kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version))
	}
	return fmt.Sprint(parts)
}

// one is shown of a key that may be missing.
func one(kv *mvccpb.KeyValue) string {
	if kv == nil {
		return "none"
	}
	return shown([]*mvccpb.KeyValue{kv})
}

// happened is a list of events.
func happened(events []*clientv3.Event) string {
	var parts []string
	for _, event := range events {
		parts = append(parts, event.Type.String()+shown([]*mvccpb.KeyValue{event.Kv}))
	}
	return fmt.Sprint(parts)
}

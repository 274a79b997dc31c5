// Package kubernetes drives the storage of the Kubernetes API server (k8s.io/apiserver, package storage/etcd3) on real etcd
// and on ours, with the checks that it publishes for implementations of its storage interface.
//
// It owns how such a storage is set up; the checks are Kubernetes' own. Both servers must pass the same ones.
package kubernetes

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"k8s.io/apimachinery/pkg/api/apitesting"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	featuregatetesting "k8s.io/component-base/featuregate/testing"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	. "quorate/tests/harness"
)

// stored is what the storage puts in front of each value; the checks look for it.
const stored = "test!"

var (
	scheme = runtime.NewScheme()
	codecs = serializer.NewCodecFactory(scheme)
)

func TestMain(m *testing.M) {
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	for _, add := range []func(*runtime.Scheme) error{example.AddToScheme, examplev1.AddToScheme} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	klog.SetOutput(io.Discard)
	klog.LogToStderr(false)
	flag.Parse()
	// The checks wait for most of their time.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// bench is one server with a storage of pods on it.
type bench struct {
	server  *Server
	client  *kubernetes.Client
	storage storage.Interface
}

// onBoth runs the check on a fresh server of each kind, at the same time.
func onBoth(t *testing.T, check func(ctx context.Context, t *testing.T, b *bench)) {
	t.Helper()
	onEach(t, func(ctx context.Context, t *testing.T, b func() *bench) {
		t.Parallel()
		check(ctx, t, b())
	})
}

// onEach is onBoth for a check that decides itself what runs at the same time. Those that switch Kubernetes' features on
// and off must run alone.
func onEach(t *testing.T, check func(ctx context.Context, t *testing.T, b func() *bench)) {
	t.Helper()
	programs := Programs(t)
	for _, kind := range []struct{ name, binary string }{{"etcd", programs.Peer}, {"ours", programs.Server}} {
		t.Run(kind.name, func(t *testing.T) {
			check(t.Context(), t, func() *bench { return newBench(t, kind.binary) })
		})
	}
}

func newBench(t *testing.T, binary string) *bench {
	t.Helper()
	// A member alone elects itself at once, the sooner the shorter its timeout is.
	server := Single(t, binary, "--heartbeat-interval=10", "--election-timeout=100", "--watch-progress-notify-interval=1s")
	client, err := kubernetes.New(clientv3.Config{Endpoints: []string{server.ClientURL}, DialTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	client.KV = storagetesting.NewKVRecorder(client.KV, nil)
	client.Kubernetes = storagetesting.NewKubernetesRecorder(client.Kubernetes)
	versioner := storage.APIObjectVersioner{}
	compactor := etcd3.NewCompactor(client.Client, 0, clock.RealClock{}, nil)
	t.Cleanup(compactor.Stop)
	codec := apitesting.TestCodec(codecs, examplev1.SchemeGroupVersion)
	leases := etcd3.NewDefaultLeaseManagerConfig()
	leases.ReuseDurationSeconds = 1
	made, err := etcd3.New(client, compactor, codec, func() runtime.Object { return &example.Pod{} },
		func() runtime.Object { return &example.PodList{} }, "", "/pods/", schema.GroupResource{Resource: "pods"},
		storagetesting.NewPrefixTransformer([]byte(stored), false), leases, etcd3.NewDefaultDecoder(codec, versioner), versioner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(made.Close)
	return &bench{server, client, made}
}

// holds checks what lies in the store under a key: the prefix, and an object without a revision of its own.
func (b *bench) holds(ctx context.Context, t *testing.T, key string) {
	t.Helper()
	got, err := b.client.KV.Get(ctx, key)
	if err != nil || len(got.Kvs) != 1 {
		t.Fatalf("%s: %v %v", key, got, err)
	}
	value := got.Kvs[0].Value
	if len(value) < len(stored) || string(value[:len(stored)]) != stored {
		t.Fatalf("%s holds %q", key, value)
	}
	object, err := runtime.Decode(apitesting.TestCodec(codecs, examplev1.SchemeGroupVersion), value[len(stored):])
	if err != nil {
		t.Fatal(err)
	}
	if pod := object.(*example.Pod); pod.ResourceVersion != "" {
		t.Errorf("%s is stored with the revision %s", key, pod.ResourceVersion)
	}
}

// compact compacts as the API server does, and waits until the storage knows.
func (b *bench) compact(ctx context.Context, t *testing.T, resourceVersion string) {
	t.Helper()
	revision, err := strconv.ParseInt(resourceVersion, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	var logical int64
	Eventually(t, ReadyLimit, "the compaction", func() error {
		logical, _, _, err = etcd3.Compact(ctx, b.client.Client, logical, revision)
		return err
	})
	Eventually(t, ReadyLimit, "the storage knows of it", func() error {
		if known := b.storage.CompactRevision(); known != revision {
			return Wanted("it knows %d of %d", known, revision)
		}
		return nil
	})
}

// grow makes a new revision of the store.
func (b *bench) grow(ctx context.Context, t *testing.T) int64 {
	t.Helper()
	reply, err := b.client.KV.Put(ctx, "elsewhere", "v")
	if err != nil {
		t.Fatal(err)
	}
	return reply.Header.Revision
}

func TestObjects(t *testing.T) {
	checks := map[string]func(context.Context, *testing.T, storage.Interface){
		"create with time to live":   storagetesting.RunTestCreateWithTTL,
		"create what exists":         storagetesting.RunTestCreateWithKeyExist,
		"get":                        storagetesting.RunTestGet,
		"delete":                     storagetesting.RunTestUnconditionalDelete,
		"delete on a condition":      storagetesting.RunTestConditionalDelete,
		"delete what is known":       storagetesting.RunTestDeleteWithSuggestion,
		"delete against another":     storagetesting.RunTestDeleteWithConflict,
		"delete old against another": storagetesting.RunTestDeleteWithSuggestionAndConflict,
		"delete what is deleted":     storagetesting.RunTestDeleteWithSuggestionOfDeletedObject,
		"delete on a precondition":   storagetesting.RunTestPreconditionalDeleteWithSuggestion,
		"update with time to live":   storagetesting.RunTestGuaranteedUpdateWithTTL,
		"update against another":     storagetesting.RunTestGuaranteedUpdateWithConflict,
		"update old against another": storagetesting.RunTestGuaranteedUpdateWithSuggestionAndConflict,
		"keys":                       storagetesting.RunTestKeySchema,
	}
	for name, check := range checks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(ctx context.Context, t *testing.T, b *bench) { check(ctx, t, b.storage) })
		})
	}
	t.Run("create", func(t *testing.T) {
		t.Parallel()
		onBoth(t, func(ctx context.Context, t *testing.T, b *bench) {
			storagetesting.RunTestCreate(ctx, t, b.storage, b.holds)
		})
	})
}

// Lists are asked page by page, and as one stream.
func TestLists(t *testing.T) {
	for _, streamed := range []bool{false, true} {
		t.Run(fmt.Sprintf("streamed=%v", streamed), func(t *testing.T) {
			featuregatetesting.SetFeatureGateDuringTest(t, utilfeature.DefaultFeatureGate, features.EtcdRangeStream, streamed)
			checks := map[string]func(context.Context, *testing.T, *bench){
				"list": func(ctx context.Context, t *testing.T, b *bench) {
					recorder := b.client.Kubernetes.(*storagetesting.KubernetesRecorder)
					storagetesting.RunTestList(ctx, t, b.storage, b.compact, false, recorder)
				},
				"consistent": func(ctx context.Context, t *testing.T, b *bench) {
					storagetesting.RunTestConsistentList(ctx, t, b.storage, b.grow, false, true, false)
				},
				"page by page": func(ctx context.Context, t *testing.T, b *bench) {
					storagetesting.RunTestListPaging(ctx, t, b.storage)
				},
				"go on after a compaction": func(ctx context.Context, t *testing.T, b *bench) {
					storagetesting.RunTestListInconsistentContinuation(ctx, t, b.storage, b.compact)
				},
				"of one namespace": func(ctx context.Context, t *testing.T, b *bench) {
					storagetesting.RunTestNamespaceScopedList(ctx, t, b.storage)
				},
				"one key": func(ctx context.Context, t *testing.T, b *bench) {
					storagetesting.RunTestGetListNonRecursive(ctx, t, b.grow, b.storage)
				},
				"prefixes": func(ctx context.Context, t *testing.T, b *bench) {
					storagetesting.RunTestGetListRecursivePrefix(ctx, t, b.storage)
				},
				"the compacted revision": func(ctx context.Context, t *testing.T, b *bench) {
					storagetesting.RunTestCompactRevision(ctx, t, b.storage, b.grow, b.compact)
				},
			}
			for name, check := range checks {
				t.Run(name, func(t *testing.T) { onBoth(t, check) })
			}
		})
	}
}

func TestWatches(t *testing.T) {
	checks := map[string]func(context.Context, *testing.T, storage.Interface){
		"all":                         storagetesting.RunTestWatch,
		"of the cluster":              storagetesting.RunTestClusterScopedWatch,
		"of one namespace":            storagetesting.RunTestNamespaceScopedWatch,
		"deletions":                   storagetesting.RunTestDeleteTriggerWatch,
		"from a revision":             storagetesting.RunTestWatchFromNonZero,
		"late":                        storagetesting.RunTestDelayedWatchDelivery,
		"cancelled":                   storagetesting.RunTestWatchContextCancel,
		"revision of what is deleted": storagetesting.RunTestWatchDeleteEventObjectHaveLatestRV,
		"first state":                 storagetesting.RunTestWatchInitializationSignal,
		"meaning of options":          storagetesting.RunWatchSemantics,
		"first state and bookmarks":   storagetesting.RunWatchSemanticInitialEventsExtended,
		"first state of one object":   storagetesting.RunWatchListMatchSingle,
		"first state, as before":      storagetesting.RunSendInitialEventsBackwardCompatibility,
	}
	for name, check := range checks {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(ctx context.Context, t *testing.T, b func() *bench) { check(ctx, t, b().storage) })
		})
	}
	t.Run("from zero", func(t *testing.T) {
		t.Parallel()
		onBoth(t, func(ctx context.Context, t *testing.T, b *bench) {
			storagetesting.RunTestWatchFromZero(ctx, t, b.storage, b.compact)
		})
	})
	t.Run("progress", func(t *testing.T) {
		t.Parallel()
		onBoth(t, func(ctx context.Context, t *testing.T, b *bench) {
			storagetesting.RunOptionalTestProgressNotify(ctx, t, b.storage, b.grow)
		})
	})
	t.Run("bookmarks", func(t *testing.T) {
		t.Parallel()
		onBoth(t, func(ctx context.Context, t *testing.T, b *bench) {
			storagetesting.RunTestWatchDispatchBookmarkEvents(ctx, t, b.storage, false)
		})
	})
}

// A watch of the API server goes on when the server under it is killed and comes back.
func TestThroughARestart(t *testing.T) {
	onBoth(t, func(ctx context.Context, t *testing.T, b *bench) {
		pod := func(name string) *example.Pod {
			return &example.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
		}
		first := &example.Pod{}
		if err := b.storage.Create(ctx, "/pods/ns/first", pod("first"), first, 0); err != nil {
			t.Fatal(err)
		}
		options := storage.ListOptions{ResourceVersion: first.ResourceVersion, Predicate: storage.Everything, Recursive: true}
		events, err := b.storage.Watch(ctx, "/pods/", options)
		if err != nil {
			t.Fatal(err)
		}
		defer events.Stop()
		next := func(kind watch.EventType, name string) {
			t.Helper()
			select {
			case event := <-events.ResultChan():
				if seen, is := event.Object.(*example.Pod); !is || event.Type != kind || seen.Name != name {
					t.Fatalf("not %s %s: %v", kind, name, event)
				}
			case <-time.After(ReadyLimit):
				t.Fatalf("no %s of %s", kind, name)
			}
		}
		before := pod("before")
		if err := b.storage.Create(ctx, "/pods/ns/before", before, before.DeepCopy(), 0); err != nil {
			t.Fatal(err)
		}
		next(watch.Added, "before")
		b.server.Kill()
		b.server.Start("", "new")
		Eventually(t, ReadyLimit, "a pod after the restart", func() error {
			err := b.storage.Create(ctx, "/pods/ns/after", pod("after"), nil, 0)
			if storage.IsExist(err) {
				return nil
			}
			return err
		})
		next(watch.Added, "after")
		if err := b.storage.Delete(ctx, "/pods/ns/first", &example.Pod{}, nil, storage.ValidateAllObjectFunc, nil, storage.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		next(watch.Deleted, "first")
		list := &example.PodList{}
		if err := b.storage.GetList(ctx, "/pods/", storage.ListOptions{Predicate: storage.Everything, Recursive: true}, list); err != nil {
			t.Fatal(err)
		}
		if len(list.Items) != 2 {
			t.Errorf("%d pods are left", len(list.Items))
		}
	})
}

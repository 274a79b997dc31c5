package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	. "quorate/tests/harness"
)

const rotKeys = 300

// needsQuorate skips what real etcd, in the place of the server under test, cannot do.
func needsQuorate(t *testing.T) {
	t.Helper()
	if !OursIsQuorate(t) {
		t.Skip("etcd neither repairs its data nor ends its alarms")
	}
}

func rotValue(number int) string {
	return fmt.Sprintf("value %05d %s", number, strings.Repeat("v", 4000))
}

func putAll(t *testing.T, s *Server) {
	t.Helper()
	client := Client(t, s)
	for number := range rotKeys {
		if _, err := client.Put(within(t), fmt.Sprintf("rot/%05d", number), rotValue(number)); err != nil {
			t.Fatal(err)
		}
	}
}

// flip changes one byte of a value where it lies in a member's data. The checksum tells.
func flip(t *testing.T, s *Server, number int) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(s.DataDir, "member", "store", "*", "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	wanted := []byte(fmt.Sprintf("value %05d ", number))
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(content, wanted)
		if at < 0 {
			continue
		}
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.WriteAt([]byte{'V'}, int64(at)+2000); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no segment of %s holds value %d", s.Name, number)
}

// read answers what a member itself says of a key, and fails the test if that is wrong.
func read(t *testing.T, s *Server, number int) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	request := &pb.RangeRequest{Key: fmt.Appendf(nil, "rot/%05d", number), Serializable: true}
	reply, err := pb.NewKVClient(s.Conn()).Range(ctx, request)
	if err != nil {
		return err
	}
	if len(reply.Kvs) != 1 || string(reply.Kvs[0].Value) != rotValue(number) {
		t.Fatalf("%s serves something else than was written as key %d", s.Name, number)
	}
	return nil
}

// repaired waits until a member got another store, serves all, and no alarm is left.
func repaired(t *testing.T, c *Cluster, s *Server) {
	t.Helper()
	Eventually(t, ReadyLimit, "the repair of "+s.Name, func() error {
		if !strings.Contains(s.LogText(), "this member's data was repaired from another member") {
			return errors.New("its log does not tell of it")
		}
		for number := range rotKeys {
			if err := read(t, s, number); err != nil {
				return fmt.Errorf("key %d: %w", number, err)
			}
		}
		return noAlarms(t, s)
	})
	equal(t, c)
}

func alarms(t *testing.T, s *Server) ([]*pb.AlarmMember, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	reply, err := pb.NewMaintenanceClient(s.Conn()).Alarm(ctx, &pb.AlarmRequest{})
	if err != nil {
		return nil, err
	}
	return reply.Alarms, nil
}

func noAlarms(t *testing.T, s *Server) error {
	found, err := alarms(t, s)
	if err == nil && len(found) > 0 {
		err = fmt.Errorf("alarms: %v", found)
	}
	return err
}

// A byte of a stored value changes while the member runs: whoever reads it gets an error, never the byte; the member is
// repaired from the others, which go on.
func TestARottenRecordIsRepaired(t *testing.T) {
	needsQuorate(t)
	c := start(t)
	putAll(t, c.Members[0])
	for _, victim := range []*Server{c.Followers()[0], c.Leader()} {
		other := c.Members[0]
		if other == victim {
			other = c.Members[1]
		}
		// A checkpoint brings all records to the file.
		victim.Signal(syscall.SIGTERM)
		victim.AwaitExit(ReadyLimit)
		c.Start(victim)
		c.AwaitReady()
		flip(t, victim, 7)
		err := read(t, victim, 7)
		if err == nil || !strings.Contains(err.Error(), "etcdserver: corrupt cluster") {
			t.Fatalf("a record that rotted is answered with %v", err)
		}
		if _, err := Client(t, other).Put(within(t), "meanwhile", "x"); err != nil {
			t.Fatalf("the others do not go on: %v", err)
		}
		repaired(t, c, victim)
	}
}

// The same while the member is down. The broken segment keeps its records from being opened at all.
func TestARottenSegmentIsRepairedAtTheStart(t *testing.T) {
	needsQuorate(t)
	c := start(t)
	putAll(t, c.Members[0])
	victim := c.Followers()[0]
	victim.Signal(syscall.SIGTERM)
	victim.AwaitExit(ReadyLimit)
	flip(t, victim, 123)
	c.Start(victim)
	repaired(t, c, victim)
	// It holds for later starts.
	victim.Signal(syscall.SIGTERM)
	victim.AwaitExit(ReadyLimit)
	c.Start(victim)
	c.AwaitReady()
	Eventually(t, ReadyLimit, "a read", func() error { return read(t, victim, 123) })
}

// A member alone has nobody to be repaired from: it serves what is whole, and says so.
func TestARottenRecordOfALoneMemberIsReported(t *testing.T) {
	needsQuorate(t)
	s := Single(t, Programs(t).Server)
	putAll(t, s)
	Eventually(t, ReadyLimit, "the records in their file", func() error {
		paths, err := filepath.Glob(filepath.Join(s.DataDir, "member", "store", "*", "*.seg"))
		if err != nil || len(paths) == 0 {
			return fmt.Errorf("no segment: %v", err)
		}
		content, err := os.ReadFile(paths[0])
		if err == nil && !bytes.Contains(content, []byte("value 00007 ")) {
			err = errors.New("not there")
		}
		return err
	})
	flip(t, s, 7)
	if err := read(t, s, 7); err == nil || !strings.Contains(err.Error(), "etcdserver: corrupt cluster") {
		t.Fatalf("a record that rotted is answered with %v", err)
	}
	Eventually(t, ReadyLimit, "the alarm", func() error {
		found, err := alarms(t, s)
		if err == nil && (len(found) != 1 || found[0].Alarm != pb.AlarmType_CORRUPT) {
			err = fmt.Errorf("alarms: %v", found)
		}
		return err
	})
	if err := read(t, s, 8); err != nil {
		t.Fatalf("the rest is not served: %v", err)
	}
	if _, err := Client(t, s).Put(within(t), "more", "x"); err != nil {
		t.Fatalf("nothing is written: %v", err)
	}
}

// fill writes until the quota refuses, and answers how often it could.
func fill(t *testing.T, client *clientv3.Client) int {
	t.Helper()
	value := strings.Repeat("q", 16<<10)
	for count := range 1000 {
		_, err := client.Put(within(t), fmt.Sprintf("quota/%d", count%10), value)
		if errors.Is(err, rpctypes.ErrNoSpace) {
			return count
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the quota never refuses")
	return 0
}

func compactAll(t *testing.T, client *clientv3.Client) {
	t.Helper()
	reply, err := client.Delete(within(t), "quota/", clientv3.WithPrefix())
	if err != nil {
		t.Fatalf("a delete under the alarm: %v", err)
	}
	if _, err := client.Compact(within(t), reply.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatalf("a compaction under the alarm: %v", err)
	}
}

// A member judges by what it has applied, so those that lag let a few more in than fit.
//
// The alarm for want of space is over when there is room: nobody has to defragment or disarm.
func TestTheQuotaEndsByItself(t *testing.T) {
	needsQuorate(t)
	c := start(t, "--quota-backend-bytes=2097152")
	client := Client(t, c.Members...)
	if count := fill(t, client); count < 100 || count > 140 {
		t.Fatalf("%d values of 16 KiB fit into 2 MiB", count)
	}
	found, err := alarms(t, c.Members[0])
	if err != nil || len(found) == 0 || found[0].Alarm != pb.AlarmType_NOSPACE {
		t.Fatalf("alarms: %v, %v", found, err)
	}
	for _, s := range c.Members {
		if _, err := Client(t, s).Put(within(t), "small", "x"); !errors.Is(err, rpctypes.ErrNoSpace) {
			t.Fatalf("%s answers a put with %v", s.Name, err)
		}
	}
	compactAll(t, client)
	Eventually(t, ReadyLimit, "the end of the alarm", func() error { return noAlarms(t, c.Members[0]) })
	if _, err := client.Put(within(t), "small", "x"); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(c.Members[0].LogText(), "the store is filling up") {
		t.Error("nobody was warned")
	}
}

// etcd's form of it, for those that rely on it.
func TestTheQuotaStaysWhenAsked(t *testing.T) {
	needsQuorate(t)
	s := Single(t, Programs(t).Server, "--quota-backend-bytes=2097152", "--quorate-sticky-nospace=true")
	client := Client(t, s)
	fill(t, client)
	compactAll(t, client)
	// Room is there well before a later look finds it, if anybody looked.
	Eventually(t, ReadyLimit, "a store with room", func() error {
		status, err := s.Status()
		if err == nil && status.DbSizeInUse > 1<<20 {
			err = fmt.Errorf("%d bytes in use", status.DbSizeInUse)
		}
		return err
	})
	if _, err := client.Put(within(t), "small", "x"); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Fatalf("a put is answered with %v", err)
	}
	if _, err := client.AlarmDisarm(within(t), &clientv3.AlarmMember{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(within(t), "small", "x"); err != nil {
		t.Fatal(err)
	}
}

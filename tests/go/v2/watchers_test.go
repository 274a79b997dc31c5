package v2

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"quorate/tests/harness"
)

const (
	watchers = 10_000
	// What one waiting watcher may cost at the most, its connection included.
	watcherBytesMax = 48 << 10
)

// figure reads a metric's value.
func figure(t *testing.T, server *harness.Server, name string) float64 {
	response, err := http.Get(server.ClientURL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(page), "\n") {
		if value, found := strings.CutPrefix(line, name+" "); found {
			number, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return number
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// TestTenThousandWatchers lets many clients wait, each on a connection of its own: what they cost is bounded, and one
// change reaches all of them. What they cost etcd is told beside it.
func TestTenThousandWatchers(t *testing.T) {
	servers := pair(t)
	var costs [2]float64
	for i, server := range servers {
		before := figure(t, server, "process_resident_memory_bytes")
		connections := make([]net.Conn, watchers)
		for j := range connections {
			connection, err := net.Dial("tcp", server.Endpoint())
			if err != nil {
				t.Fatal(err)
			}
			defer connection.Close()
			connections[j] = connection
			path := fmt.Sprintf("/v2/keys/w/%d?wait=true&recursive=true", j%100)
			if j%2 == 0 {
				path = "/v2/keys/w?wait=true&recursive=true&stream=true"
			}
			fmt.Fprintf(connection, "GET %s HTTP/1.1\r\nHost: test\r\n\r\n", path)
		}
		harness.Eventually(t, harness.ReadyLimit, "all watchers", func() error {
			answer := ask(server, request{method: "GET", path: "/v2/stats/store"})
			if want := fmt.Sprintf(`"watchers":%d`, watchers); !strings.Contains(answer, want) {
				return harness.Wanted("%s, got %s", want, answer)
			}
			return nil
		})
		costs[i] = (figure(t, server, "process_resident_memory_bytes") - before) / watchers
		for j := range 100 {
			ask(server, request{method: "PUT", path: fmt.Sprintf("/v2/keys/w/%d", j), form: "value=changed"})
		}
		var waiting sync.WaitGroup
		failures := make(chan string, watchers)
		for _, connection := range connections {
			waiting.Add(1)
			go func() {
				defer waiting.Done()
				connection.SetReadDeadline(time.Now().Add(harness.ReadyLimit))
				reader := bufio.NewReader(connection)
				for {
					line, err := reader.ReadString('\n')
					if strings.Contains(line, `"value":"changed"`) {
						return
					}
					if err != nil {
						failures <- err.Error()
						return
					}
				}
			}()
		}
		waiting.Wait()
		if len(failures) > 0 {
			t.Fatalf("%s: %d watchers saw no change, one for %s", server.Name, len(failures), <-failures)
		}
		for _, connection := range connections {
			connection.Close()
		}
		harness.Eventually(t, harness.ReadyLimit, "the watchers' end", func() error {
			// A change shows a server which streams have nobody at the other end.
			ask(server, request{method: "PUT", path: "/v2/keys/w/0", form: "value=x"})
			if answer := ask(server, request{method: "GET", path: "/v2/stats/store"}); !strings.Contains(answer, `"watchers":0`) {
				return harness.Wanted("no watchers, got %s", answer)
			}
			return nil
		})
	}
	t.Logf("bytes a watcher: etcd 3.4 %.0f, ours %.0f", costs[0], costs[1])
	if costs[1] > watcherBytesMax {
		t.Errorf("a waiting watcher costs %.0f bytes; %d are allowed", costs[1], watcherBytesMax)
	}
}

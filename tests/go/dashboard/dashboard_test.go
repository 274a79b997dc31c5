// Package dashboard looks at /dashboard as people do: in a browser.
package dashboard

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	. "quorate/tests/harness"
)

// callLimit bounds each call and each look at the page.
const callLimit = 20 * time.Second

// page is a browser that shows the dashboard of a member.
type page struct {
	t   *testing.T
	ctx context.Context
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	t.Cleanup(cancel)
	return ctx
}

// open starts headless Chromium on the dashboard.
func open(t *testing.T, s *Server) *page {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Fatal("the dashboard is tested in a browser: install Debian's package chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.WindowSize(1400, 1200),
		chromedp.WSURLReadTimeout(callLimit), chromedp.NoSandbox, chromedp.Flag("ignore-certificate-errors", true))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	p := &page{t, ctx}
	do(p, chromedp.Navigate(s.ClientURL+"/dashboard"))
	return p
}

// do runs an action of the browser.
func do[T any](p *page, action chromedp.Action[T]) T {
	p.t.Helper()
	// The browser lives as long as the context of its first run: bounded by the test's own limit.
	value, err := chromedp.Run(p.ctx, action)
	if err != nil {
		p.t.Fatal(err)
	}
	return value
}

// text is what an element shows.
func (p *page) text(selector string) string {
	p.t.Helper()
	text := do(p, chromedp.Evaluate[string](fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector)))
	return strings.Join(strings.Fields(text), " ")
}

// await waits until an element shows all of the words.
func (p *page) await(selector string, words ...string) {
	p.t.Helper()
	Eventually(p.t, callLimit, "the page", func() error {
		text := p.text(selector)
		for _, word := range words {
			if !strings.Contains(text, word) {
				return Wanted("%s shows %q, and not %q", selector, text, word)
			}
		}
		return nil
	})
}

// press clicks the button with a text.
func (p *page) press(text string) {
	p.t.Helper()
	script := fmt.Sprintf("(() => { const found = [...document.querySelectorAll('button')].find(b => b.innerText === %q); found?.click(); return !!found; })()", text)
	Eventually(p.t, callLimit, "a button", func() error {
		if !do(p, chromedp.Evaluate[bool](script)) {
			return Wanted("no button %q among: %s", text, p.text("#keys"))
		}
		return nil
	})
}

// submit fills a form's fields in and sends it.
func (p *page) submit(form string, fields map[string]string) {
	p.t.Helper()
	script := ""
	for field, value := range fields {
		script += fmt.Sprintf("document.querySelector(%q).value = %q; ", field, value)
	}
	do(p, chromedp.Evaluate[bool](script+fmt.Sprintf("document.querySelector(%q).requestSubmit(); true", form)))
}

// photograph keeps a picture of the page for whoever names a folder in DASHBOARD_PICTURES.
func (p *page) photograph(name string) {
	p.t.Helper()
	folder := os.Getenv("DASHBOARD_PICTURES")
	if folder == "" {
		return
	}
	Must(p.t, os.WriteFile(filepath.Join(folder, name+".png"), do(p, chromedp.FullScreenshot(100)), 0o644))
}

func put(t *testing.T, client *clientv3.Client, key, value string, options ...clientv3.OpOption) {
	t.Helper()
	_, err := client.Put(within(t), key, value, options...)
	Must(t, err)
}

// TestACluster shows members, keys with their history, leases and watches, a dead member and an alarm.
func TestACluster(t *testing.T) {
	c := StartCluster(t, Programs(t).Server, 3)
	c.AwaitReady()
	leader := c.Leader()
	client := Client(t, leader)
	for version := range 3 {
		put(t, client, "app/config/limit", fmt.Sprintf("limit-%d", version))
	}
	for i := range 300 {
		put(t, client, fmt.Sprintf("app/many/k%03d", i), "v")
	}
	lease, err := client.Grant(within(t), 600)
	Must(t, err)
	put(t, client, "service/a", "10.0.0.1", clientv3.WithLease(lease.ID))
	watching, cancel := context.WithCancel(context.Background())
	defer cancel()
	if response := <-client.Watch(watching, "app/", clientv3.WithPrefix(), clientv3.WithCreatedNotify()); !response.Created {
		t.Fatal("no watch")
	}

	p := open(t, leader)
	p.await("#state", "healthy")
	p.await("#members", "m0", "m1", "m2", "leader", "follower")
	if members := p.text("#members"); strings.Count(members, "leader") != 1 || strings.Count(members, "follower") != 2 {
		t.Errorf("members: %s", members)
	}
	p.await("#leases", fmt.Sprintf("%x", int64(lease.ID)), "600 s", "service/a")
	p.await("#traffic", leader.Name+" ")
	p.await("#keys", "app/ 301", "service/ 1")
	p.press("app/")
	p.await("#keys", "app/config/ 1", "app/many/ 300")
	p.press("app/many/")
	p.await("#keys", "app/many/k000", "app/many/k199")
	p.await("#keys-note", "first 200")
	p.press("app/")
	p.press("app/config/")
	p.press("app/config/limit")
	p.await("#history", "limit-0", "limit-1", "limit-2")
	p.await("#rate", ".")
	p.photograph("cluster")

	_, err = client.Compact(within(t), 3)
	Must(t, err)
	p.press("app/config/limit")
	p.await("#history-note", "compacted")

	follower := c.Followers()[0]
	follower.Kill()
	p.await("#state", "1 of 3 not reachable")
	p.await("#members", "unreachable")
	p.photograph("member-down")
	c.Start(follower)
	follower.AwaitReady()
	p.await("#state", "healthy")

	status, err := leader.Status()
	Must(t, err)
	_, err = pb.NewMaintenanceClient(client.ActiveConnection()).Alarm(within(t), &pb.AlarmRequest{
		Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE, MemberID: status.Header.MemberId,
	})
	Must(t, err)
	p.await("#alarms", "NOSPACE", leader.Name)
	p.await("#state", "alarm")
	p.photograph("alarm")

	for _, member := range c.Members {
		member.Signal(syscall.SIGKILL)
	}
	p.await("#state", "no connection")
	p.await("#failure", "does not answer")
	c.StartAll() // and nobody is healthy, because of the alarm
	p.await("#state", "alarm")
}

// TestHostileNames shows keys and values as text, whatever they contain.
func TestHostileNames(t *testing.T) {
	s := Single(t, Programs(t).Server)
	client := Client(t, s)
	key := `<img src=x onerror="document.title='broken'">`
	put(t, client, key, `<script>document.title='broken'</script>`)
	put(t, client, "bytes\x00\xff", "\x01\xfe")
	p := open(t, s)
	p.await("#keys", key, `bytes\x00\xff`)
	p.press(key)
	p.await("#history", "<script>document.title='broken'</script>")
	p.press(`bytes\x00\xff`)
	p.await("#history", `\x01\xfe`)
	title, images := do(p, chromedp.Title()), do(p, chromedp.Evaluate[int]("document.images.length"))
	if title != "Quorate" || images != 0 {
		t.Errorf("a key became part of the page: title %q, %d images", title, images)
	}
}

// TestAuthAndTLS shows nothing to nobody, and to a user what the user may read.
func TestAuthAndTLS(t *testing.T) {
	authority := NewAuthority(t, "ca")
	s := NewServer(t, Programs(t).Server, "m0")
	certificate := authority.Issue("server", For(s.Endpoint()))
	s.Secure(authority.Trusting(), "--cert-file="+certificate.CertFile, "--key-file="+certificate.KeyFile)
	s.Start("", "new")
	s.AwaitReady()
	client := Client(t, s)
	put(t, client, "mine/a", "for-me")
	put(t, client, "secret/b", "hidden-value")
	for _, name := range []string{"root", "anna"} {
		_, err := client.UserAdd(within(t), name, name+"-password")
		Must(t, err)
		_, err = client.RoleAdd(within(t), name)
		Must(t, err)
		_, err = client.UserGrantRole(within(t), name, name)
		Must(t, err)
	}
	_, err := client.RoleGrantPermission(within(t), "anna", "mine/", "mine0", clientv3.PermissionType(clientv3.PermRead))
	Must(t, err)
	_, err = client.AuthEnable(within(t))
	Must(t, err)

	p := open(t, s)
	p.await("#login", "asks who you are")
	if shown := p.text("#members") + p.text("#leases"); shown != "" || strings.Contains(p.text("#keys"), "/") {
		t.Errorf("shown to nobody: %q, %q", shown, p.text("#keys"))
	}
	p.photograph("login")
	logIn := func(name, password string) {
		p.submit("#login-form", map[string]string{"#login-name": name, "#login-password": password})
	}
	logIn("anna", "wrong")
	p.await("#login-failure", "authentication failed")
	logIn("anna", "anna-password")
	p.await("#user", "anna")
	p.await("#state", "healthy")
	p.await("#keys", "permission denied")
	p.submit("#browse", map[string]string{"#prefix": "mine/"})
	p.await("#keys", "mine/a")
	p.press("mine/a")
	p.await("#history", "for-me")
	p.press("Log out")
	p.await("#login", "asks who you are")
	if left := p.text("#keys") + p.text("#history") + p.text("#members"); left != "" {
		t.Errorf("left behind for nobody: %q", left)
	}
	logIn("root", "root-password")
	p.await("#keys", "mine/ 1", "secret/ 1")
	if log := s.LogText(); strings.Contains(log, "anna-password") || strings.Contains(log, "hidden-value") {
		t.Error("the log holds a secret")
	}
}

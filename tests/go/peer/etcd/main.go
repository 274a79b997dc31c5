// Command etcd-peer is real etcd, its server package used as a library: what every reply of ours is held against.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }

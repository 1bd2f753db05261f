// One program that is etcd, kube-apiserver, kube-controller-manager and kube-scheduler,
// chosen by its first argument. The tests start it four times: each part can then be
// stopped alone, as parts of a real control plane can. It also renders a kustomization.
package main

import (
	"fmt"
	"os"

	etcd "go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: control-plane etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kustomize [flags]")
		os.Exit(2)
	}
	part := os.Args[1]
	os.Args = os.Args[1:]
	switch part {
	case "etcd":
		etcd.Main(os.Args)
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "kube-controller-manager":
		os.Exit(cli.Run(controllers.NewControllerManagerCommand()))
	case "kube-scheduler":
		os.Exit(cli.Run(scheduler.NewSchedulerCommand()))
	case "kustomize":
		kustomize(os.Args[1])
	default:
		fmt.Fprintln(os.Stderr, "no such part:", part)
		os.Exit(2)
	}
}

// kustomize prints what `kubectl kustomize FOLDER` would.
func kustomize(folder string) {
	options := krusty.MakeDefaultOptions()
	found, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), folder)
	if err == nil {
		var text []byte
		if text, err = found.AsYaml(); err == nil {
			os.Stdout.Write(text)
			return
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

package apiserver

import (
	"regexp"
	"runtime"

	"k8s.io/apimachinery/pkg/version"
	"k8s.io/component-base/compatibility"
)

// KubernetesVersion is that of the libraries whose API is served.
const KubernetesVersion = "1.37.2"

// effectiveVersion answers /version by what the code says. The libraries'
// answer is made by the linker's flags, which "go install" does not give.
type effectiveVersion struct {
	compatibility.MutableEffectiveVersion
	git string
}

var notInVersion = regexp.MustCompile(`[^0-9A-Za-z-]+`)

func newEffectiveVersion(leat string) *effectiveVersion {
	git := "v" + KubernetesVersion + "+leat"
	if leat != "" {
		git += "." + notInVersion.ReplaceAllString(leat, ".")
	}
	return &effectiveVersion{compatibility.NewEffectiveVersionFromString(KubernetesVersion, "", ""), git}
}

// Info implements compatibility.EffectiveVersion.
func (v *effectiveVersion) Info() *version.Info {
	info := v.MutableEffectiveVersion.Info()
	info.GitVersion = v.git
	info.GitCommit, info.GitTreeState, info.BuildDate = "", "", ""
	info.GoVersion, info.Compiler, info.Platform = runtime.Version(), runtime.Compiler, runtime.GOOS+"/"+runtime.GOARCH
	return info
}

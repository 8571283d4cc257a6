//go:build linux

package peers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// What Maven is to bring; it says from where by its own settings.
const (
	kafkaVersion = "4.4.0"
	kafkaPOM     = `<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>dev.leat</groupId>
  <artifactId>bench-kafka</artifactId>
  <version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>` + kafkaVersion + `</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
`
	copyDependencies = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
)

func kafka(name, title string, flush bool) Peer {
	return Peer{
		Name: name, Title: title, Client: "kafka", Synced: flush,
		install: installKafka,
		command: func(m Machine, dir string, port int) (*exec.Cmd, error) {
			config := filepath.Join(dir, "server.properties")
			if err := os.WriteFile(config, []byte(kafkaConfig(dir, port, flush)), 0o600); err != nil {
				return nil, err
			}
			if _, err := os.Stat(filepath.Join(dir, "data", "meta.properties")); errors.Is(err, fs.ErrNotExist) {
				if err := run(java(m, "-Xmx96m", "kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", config)); err != nil {
					return nil, err
				}
			}
			// The heap and the collector that Kafka's own scripts choose.
			return java(m, "-Xms1g", "-Xmx1g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "kafka.Kafka", config), nil
		},
	}
}

func kafkaHome(m Machine) string { return filepath.Join(m.Cache, "kafka-"+kafkaVersion) }

func installKafka(ctx context.Context, m Machine) error {
	for _, program := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is not installed", program)
		}
	}
	home := kafkaHome(m)
	if _, err := os.Stat(home); err == nil {
		return nil
	}
	// It is put in place in one step, so that a half of it is never used.
	half := home + ".tmp"
	if err := errors.Join(os.RemoveAll(half), os.MkdirAll(half, 0o755)); err != nil {
		return err
	}
	pom := filepath.Join(half, "pom.xml")
	if err := os.WriteFile(pom, []byte(kafkaPOM), 0o600); err != nil {
		return err
	}
	if err := run(exec.CommandContext(ctx, "mvn", "-B", "-q", "-f", pom, copyDependencies, "-DincludeScope=runtime", "-DoutputDirectory=lib")); err != nil {
		return err
	}
	return os.Rename(half, home)
}

func java(m Machine, args ...string) *exec.Cmd {
	return exec.Command("java", append([]string{"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", filepath.Join(kafkaHome(m), "lib", "*")}, args...)...)
}

func kafkaConfig(dir string, port int, flush bool) string {
	lines := []string{
		"process.roles=broker,controller",
		"node.id=1",
		fmt.Sprintf("controller.quorum.voters=1@127.0.0.1:%d", port+1),
		"controller.listener.names=CONTROLLER",
		fmt.Sprintf("listeners=PLAINTEXT://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d", port, port+1),
		fmt.Sprintf("advertised.listeners=PLAINTEXT://127.0.0.1:%d", port),
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
		"log.dirs=" + filepath.Join(dir, "data"),
		"auto.create.topics.enable=false",
		"group.initial.rebalance.delay.ms=0",
		"offsets.topic.num.partitions=1",
		"offsets.topic.replication.factor=1",
		"transaction.state.log.replication.factor=1",
		"transaction.state.log.min.isr=1",
		"share.coordinator.state.topic.replication.factor=1",
		"share.coordinator.state.topic.min.isr=1",
	}
	if flush {
		lines = append(lines, "log.flush.interval.messages=1")
	}
	return strings.Join(lines, "\n") + "\n"
}

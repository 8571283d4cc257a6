package storage

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"strings"
	"testing"

	"k8s.io/apiserver/pkg/features"
	apistorage "k8s.io/apiserver/pkg/storage"
	suite "k8s.io/apiserver/pkg/storage/testing"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	featuregatetesting "k8s.io/component-base/featuregate/testing"
)

// exceptions are the suite's functions that are not called here, and why.
var exceptions = map[string]string{}

// TestEveryFunctionOfTheSuiteIsCalled reads the suite's source, so that a new
// version of it cannot bring a test that is not run.
func TestEveryFunctionOfTheSuiteIsCalled(t *testing.T) {
	const path = "k8s.io/apiserver/pkg/storage/testing"
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", path).CombinedOutput()
	if err != nil {
		t.Fatalf("find the suite: %v: %s", err, out)
	}
	exported := map[string]bool{}
	eachDecl(t, strings.TrimSpace(string(out)), func(f *ast.File) {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Run") {
				exported[fn.Name.Name] = true
			}
		}
	})
	if len(exported) < 60 {
		t.Fatalf("only %d functions were found in %s", len(exported), out)
	}
	called := map[string]bool{}
	eachDecl(t, ".", func(f *ast.File) {
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "suite" {
					called[s.Sel.Name] = true
				}
			}
			return true
		})
	})
	for name := range exported {
		if !called[name] && exceptions[name] == "" {
			t.Errorf("%s.%s is not called", path, name)
		}
	}
	for name, reason := range exceptions {
		if !exported[name] || called[name] || reason == "" {
			t.Errorf("exception %s (%s): exported %v, called %v", name, reason, exported[name], called[name])
		}
	}
}

func eachDecl(t *testing.T, dir string, do func(*ast.File)) {
	t.Helper()
	packages, err := parser.ParseDir(token.NewFileSet(), dir, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packages {
		for name, f := range p.Files {
			if dir == "." || !strings.HasSuffix(name, "_test.go") {
				do(f)
			}
		}
	}
}

func TestConformance(t *testing.T) {
	type run func(context.Context, *testing.T, apistorage.Interface)
	for name, f := range map[string]run{
		"CreateWithTTL":                          suite.RunTestCreateWithTTL,
		"CreateWithKeyExist":                     suite.RunTestCreateWithKeyExist,
		"Get":                                    suite.RunTestGet,
		"UnconditionalDelete":                    suite.RunTestUnconditionalDelete,
		"ConditionalDelete":                      suite.RunTestConditionalDelete,
		"DeleteWithSuggestion":                   suite.RunTestDeleteWithSuggestion,
		"DeleteWithSuggestionAndConflict":        suite.RunTestDeleteWithSuggestionAndConflict,
		"DeleteWithConflict":                     suite.RunTestDeleteWithConflict,
		"DeleteWithSuggestionOfDeletedObject":    suite.RunTestDeleteWithSuggestionOfDeletedObject,
		"ValidateDeletionWithSuggestion":         suite.RunTestValidateDeletionWithSuggestion,
		"ValidateDeletionWithOnlySuggestion":     suite.RunTestValidateDeletionWithOnlySuggestionValid,
		"PreconditionalDeleteWithSuggestion":     suite.RunTestPreconditionalDeleteWithSuggestion,
		"PreconditionalDeleteWithOnlySuggestion": suite.RunTestPreconditionalDeleteWithOnlySuggestionPass,
		"GetListRecursivePrefix":                 suite.RunTestGetListRecursivePrefix,
		"ListPaging":                             suite.RunTestListPaging,
		"NamespaceScopedList":                    suite.RunTestNamespaceScopedList,
		"KeySchema":                              suite.RunTestKeySchema,
		"GuaranteedUpdateWithTTL":                suite.RunTestGuaranteedUpdateWithTTL,
		"GuaranteedUpdateWithConflict":           suite.RunTestGuaranteedUpdateWithConflict,
		"GuaranteedUpdateWithSuggestionConflict": suite.RunTestGuaranteedUpdateWithSuggestionAndConflict,
		"Watch":                                  suite.RunTestWatch,
		"ClusterScopedWatch":                     suite.RunTestClusterScopedWatch,
		"NamespaceScopedWatch":                   suite.RunTestNamespaceScopedWatch,
		"DeleteTriggerWatch":                     suite.RunTestDeleteTriggerWatch,
		"WatchFromNonZero":                       suite.RunTestWatchFromNonZero,
		"DelayedWatchDelivery":                   suite.RunTestDelayedWatchDelivery,
		"WatchContextCancel":                     suite.RunTestWatchContextCancel,
		"WatcherTimeout":                         suite.RunTestWatcherTimeout,
		"WatchDeleteEventObjectHaveLatestRV":     suite.RunTestWatchDeleteEventObjectHaveLatestRV,
		"WatchInitializationSignal":              suite.RunTestWatchInitializationSignal,
		"WatchBookmarksWithCorrectVersion":       suite.RunTestOptionalWatchBookmarksWithCorrectResourceVersion,
		"SendInitialEventsBackwardCompatibility": suite.RunSendInitialEventsBackwardCompatibility,
		"WatchSemantics":                         suite.RunWatchSemantics,
		"WatchSemanticInitialEventsExtended":     suite.RunWatchSemanticInitialEventsExtended,
		"WatchListMatchSingle":                   suite.RunWatchListMatchSingle,
	} {
		t.Run(name, func(t *testing.T) { f(t.Context(), t, newStore(t)) })
	}
}

func TestConformanceWithParts(t *testing.T) {
	for name, f := range map[string]func(ctx context.Context, t *testing.T, s *Store){
		"Create": func(ctx context.Context, t *testing.T, s *Store) { suite.RunTestCreate(ctx, t, s, storedClean(s)) },
		"List": func(ctx context.Context, t *testing.T, s *Store) {
			suite.RunTestList(ctx, t, s, compact(s.c.KV), false, nil)
		},
		"ConsistentList": func(ctx context.Context, t *testing.T, s *Store) {
			suite.RunTestConsistentList(ctx, t, s, increase(s.c.KV), false, true, false)
		},
		"GetListNonRecursive": func(ctx context.Context, t *testing.T, s *Store) {
			suite.RunTestGetListNonRecursive(ctx, t, increase(s.c.KV), s)
		},
		"ListContinuation": func(ctx context.Context, t *testing.T, s *Store) {
			suite.RunTestListContinuation(ctx, t, s, readsCounted(s))
		},
		"ListPaginationRareObject": func(ctx context.Context, t *testing.T, s *Store) {
			suite.RunTestListPaginationRareObject(ctx, t, s, readsCounted(s))
		},
		"ListContinuationWithFilter": func(ctx context.Context, t *testing.T, s *Store) {
			suite.RunTestListContinuationWithFilter(ctx, t, s, readsCounted(s))
		},
		"ListInconsistentContinuation": func(ctx context.Context, t *testing.T, s *Store) {
			suite.RunTestListInconsistentContinuation(ctx, t, s, compact(s.c.KV))
		},
		"ListResourceVersionMatch": func(ctx context.Context, t *testing.T, s *Store) {
			suite.RunTestListResourceVersionMatch(ctx, t, prefixed{s})
		},
		"GuaranteedUpdate": func(ctx context.Context, t *testing.T, s *Store) {
			suite.RunTestGuaranteedUpdate(ctx, t, prefixed{s}, storedClean(s))
		},
		"GuaranteedUpdateChecksStoredData": func(ctx context.Context, t *testing.T, s *Store) {
			suite.RunTestGuaranteedUpdateChecksStoredData(ctx, t, prefixed{s})
		},
		"TransformationFailure": func(ctx context.Context, t *testing.T, s *Store) {
			suite.RunTestTransformationFailure(ctx, t, prefixed{s})
		},
		"Stats": func(ctx context.Context, t *testing.T, s *Store) {
			suite.RunTestStats(ctx, t, s, s.c.Codec, s.transformer, false)
		},
		"StatsWithSizes": func(ctx context.Context, t *testing.T, s *Store) {
			if err := s.EnableResourceSizeEstimation(func(context.Context) ([]string, error) { return nil, nil }); err != nil {
				t.Fatal(err)
			}
			suite.RunTestStats(ctx, t, s, s.c.Codec, s.transformer, true)
		},
		"CompactRevision": func(ctx context.Context, t *testing.T, s *Store) {
			suite.RunTestCompactRevision(ctx, t, s, increase(s.c.KV), compact(s.c.KV))
		},
		"WatchFromZero": func(ctx context.Context, t *testing.T, s *Store) {
			suite.RunTestWatchFromZero(ctx, t, s, compact(s.c.KV))
		},
		"WatchError": func(ctx context.Context, t *testing.T, s *Store) { suite.RunTestWatchError(ctx, t, prefixed{s}) },
		"WatchErrorIsBlockingFurtherEvents": func(ctx context.Context, t *testing.T, s *Store) {
			suite.RunWatchErrorIsBlockingFurtherEvents(ctx, t, prefixed{s})
		},
		"ProgressNotify": func(ctx context.Context, t *testing.T, s *Store) {
			suite.RunOptionalTestProgressNotify(ctx, t, s, increase(s.c.KV))
		},
		"WatchDispatchBookmarkEvents": func(ctx context.Context, t *testing.T, s *Store) {
			suite.RunTestWatchDispatchBookmarkEvents(ctx, t, s, true)
		},
		"GetListWithoutErrorAggregation": func(ctx context.Context, t *testing.T, s *Store) {
			s.unsafely = false // as New does without the feature
			suite.RunTestGetListWithoutErrorAggregation(ctx, t, prefixed{s}, errFlipped)
		},
	} {
		t.Run(name, func(t *testing.T) { f(t.Context(), t, newStore(t)) })
	}
}

// TestConformanceOnDamage runs what the feature for damaged objects changes.
func TestConformanceOnDamage(t *testing.T) {
	featuregatetesting.SetFeatureGateDuringTest(t, utilfeature.DefaultFeatureGate, features.AllowUnsafeMalformedObjectDeletion, true)
	telling := func(c *Config) { c.TellDamage = true }
	corrupt := asCorrupt(errFlipped, "the stored data cannot be transformed", 1)
	t.Run("GetListWithErrorAggregation", func(t *testing.T) {
		suite.RunTestGetListWithErrorAggregation(t.Context(), t, prefixed{newStore(t)}, corrupt)
	})
	t.Run("WatchWithUnsafeDelete", func(t *testing.T) {
		suite.RunTestWatchWithUnsafeDelete(t.Context(), t, prefixed{newStore(t, telling)}, corrupt)
	})
	t.Run("DeleteWithSuggestion", func(t *testing.T) {
		suite.RunTestDeleteWithSuggestionAndMissingExpectedTransformOrDecodeError(t.Context(), t, newStore(t))
	})
	for name, f := range map[string]func(context.Context, testing.TB, apistorage.Interface, func(bool)){
		"DeleteWithConflict": suite.RunTestDeleteWithConflictAndMissingExpectedTransformOrDecodeError,
		"Delete":             suite.RunTestDeleteExpectedTransformOrDecodeError,
	} {
		t.Run(name+"Transform", func(t *testing.T) {
			transformer := &failingTransformer{}
			s := newStore(t, func(c *Config) { transformer.Transformer, c.Transformer = c.Transformer, transformer })
			f(t.Context(), t, s, transformer.fail.Store)
		})
		t.Run(name+"Decode", func(t *testing.T) {
			codec := &failingCodec{}
			s := newStore(t, func(c *Config) { codec.Codec, c.Codec = c.Codec, codec })
			f(t.Context(), t, s, codec.fail.Store)
		})
	}
}

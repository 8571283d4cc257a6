package core

import (
	"encoding/json"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxData bounds the keys and values of a Secret or ConfigMap, in bytes.
const maxData = corev1.MaxSecretSize

func secretKind() *kind {
	return &kind{
		gv: corev1.SchemeGroupVersion, name: "Secret", plural: "secrets", singular: "secret", namespaced: true,
		new: maker[corev1.Secret](), newList: maker[corev1.SecretList](),
		checkName: validation.NameIsDNSSubdomain,
		defaults: do(func(s *corev1.Secret) {
			if s.Type == "" {
				s.Type = corev1.SecretTypeOpaque
			}
			if len(s.StringData) > 0 && s.Data == nil {
				s.Data = make(map[string][]byte, len(s.StringData))
			}
			for key, value := range s.StringData {
				s.Data[key] = []byte(value)
			}
			s.StringData = nil
		}),
		validate: check(validateSecret),
		fields: with(func(s *corev1.Secret) fields.Set {
			return fields.Set{"type": string(s.Type)}
		}),
		columns: []metav1.TableColumnDefinition{nameColumn(), column("Type", "What the data is for."), number(column("Data", "Number of keys.")), ageColumn()},
		row: with(func(s *corev1.Secret) []any {
			return []any{s.Name, string(s.Type), int64(len(s.Data)), age(s.CreationTimestamp)}
		}),
	}
}

func validateSecret(s, old *corev1.Secret) field.ErrorList {
	var errs field.ErrorList
	data := field.NewPath("data")
	if old != nil {
		errs = append(errs, validation.ValidateImmutableField(s.Type, old.Type, field.NewPath("type"))...)
		if old.Immutable != nil && *old.Immutable {
			if s.Immutable == nil || !*s.Immutable {
				errs = append(errs, field.Forbidden(field.NewPath("immutable"), "field is immutable when `immutable` is set"))
			}
			if !maps.EqualFunc(s.Data, old.Data, slices.Equal) {
				errs = append(errs, field.Forbidden(data, "field is immutable when `immutable` is set"))
			}
		}
	}
	size := 0
	for _, key := range slices.Sorted(maps.Keys(s.Data)) {
		errs = append(errs, checkDataKey(data, key)...)
		size += len(key) + len(s.Data[key])
	}
	if size > maxData {
		errs = append(errs, field.TooLong(data, "", maxData))
	}
	return append(errs, checkSecretType(s, data)...)
}

// checkSecretType checks that a Secret of one of Kubernetes' types holds what
// its readers look for.
func checkSecretType(s *corev1.Secret, data *field.Path) field.ErrorList {
	var errs field.ErrorList
	require := func(key string) {
		if _, ok := s.Data[key]; !ok {
			errs = append(errs, field.Required(data.Key(key), ""))
		}
	}
	switch s.Type {
	case corev1.SecretTypeServiceAccountToken:
		if s.Annotations[corev1.ServiceAccountNameKey] == "" {
			errs = append(errs, field.Required(field.NewPath("metadata", "annotations").Key(corev1.ServiceAccountNameKey), ""))
		}
	case corev1.SecretTypeDockercfg, corev1.SecretTypeDockerConfigJson:
		key := corev1.DockerConfigKey
		if s.Type == corev1.SecretTypeDockerConfigJson {
			key = corev1.DockerConfigJsonKey
		}
		if content, ok := s.Data[key]; !ok {
			errs = append(errs, field.Required(data.Key(key), ""))
		} else if !json.Valid(content) {
			errs = append(errs, field.Invalid(data.Key(key), "<secret contents redacted>", "must be valid JSON"))
		}
	case corev1.SecretTypeBasicAuth:
		_, user := s.Data[corev1.BasicAuthUsernameKey]
		_, password := s.Data[corev1.BasicAuthPasswordKey]
		if !user && !password {
			require(corev1.BasicAuthUsernameKey)
			require(corev1.BasicAuthPasswordKey)
		}
	case corev1.SecretTypeSSHAuth:
		require(corev1.SSHAuthPrivateKey)
	case corev1.SecretTypeTLS:
		require(corev1.TLSCertKey)
		require(corev1.TLSPrivateKeyKey)
	}
	return errs
}

func checkDataKey(path *field.Path, key string) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range utilvalidation.IsConfigMapKey(key) {
		errs = append(errs, field.Invalid(path.Key(key), key, msg))
	}
	return errs
}

func configMapKind() *kind {
	return &kind{
		gv: corev1.SchemeGroupVersion, name: "ConfigMap", plural: "configmaps", singular: "configmap", short: []string{"cm"}, namespaced: true,
		new: maker[corev1.ConfigMap](), newList: maker[corev1.ConfigMapList](),
		checkName: validation.NameIsDNSSubdomain,
		validate:  check(validateConfigMap),
		columns:   []metav1.TableColumnDefinition{nameColumn(), number(column("Data", "Number of keys.")), ageColumn()},
		row: with(func(c *corev1.ConfigMap) []any {
			return []any{c.Name, int64(len(c.Data) + len(c.BinaryData)), age(c.CreationTimestamp)}
		}),
	}
}

func validateConfigMap(c, old *corev1.ConfigMap) field.ErrorList {
	var errs field.ErrorList
	data, binary := field.NewPath("data"), field.NewPath("binaryData")
	if old != nil && old.Immutable != nil && *old.Immutable {
		if c.Immutable == nil || !*c.Immutable {
			errs = append(errs, field.Forbidden(field.NewPath("immutable"), "field is immutable when `immutable` is set"))
		}
		if !maps.Equal(c.Data, old.Data) {
			errs = append(errs, field.Forbidden(data, "field is immutable when `immutable` is set"))
		}
		if !maps.EqualFunc(c.BinaryData, old.BinaryData, slices.Equal) {
			errs = append(errs, field.Forbidden(binary, "field is immutable when `immutable` is set"))
		}
	}
	size := 0
	for _, key := range slices.Sorted(maps.Keys(c.Data)) {
		errs = append(errs, checkDataKey(data, key)...)
		if _, ok := c.BinaryData[key]; ok {
			errs = append(errs, field.Invalid(data.Key(key), key, "duplicate of key present in binaryData"))
		}
		size += len(key) + len(c.Data[key])
	}
	for _, key := range slices.Sorted(maps.Keys(c.BinaryData)) {
		errs = append(errs, checkDataKey(binary, key)...)
		size += len(key) + len(c.BinaryData[key])
	}
	if size > maxData {
		errs = append(errs, field.TooLong(field.NewPath(""), "", maxData))
	}
	return errs
}

func serviceAccountKind() *kind {
	return &kind{
		gv: corev1.SchemeGroupVersion, name: "ServiceAccount", plural: "serviceaccounts", singular: "serviceaccount", short: []string{"sa"}, namespaced: true,
		new: maker[corev1.ServiceAccount](), newList: maker[corev1.ServiceAccountList](),
		checkName: validation.ValidateServiceAccountName,
		columns:   []metav1.TableColumnDefinition{nameColumn(), number(column("Secrets", "Number of secrets it may use.")), ageColumn()},
		row: with(func(s *corev1.ServiceAccount) []any {
			return []any{s.Name, int64(len(s.Secrets)), age(s.CreationTimestamp)}
		}),
	}
}

package kv

// LevelZero is how many tables are not merged.
func (s *Store) LevelZero() int { return s.levelZero() }

// AwaitMerge waits for the end of a merge that goes on.
func (s *Store) AwaitMerge() {
	s.tables.merging.Lock()
	defer s.tables.merging.Unlock()
}

// SetManyTables sets how many tables are merged without a pause of the writes.
func (o *Options) SetManyTables(n int) { o.manyTables = n }

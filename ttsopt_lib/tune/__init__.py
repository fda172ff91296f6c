"""`ttsopt tune`: of a handful of candidates the smallest voice that is not slower and not worse than asked."""

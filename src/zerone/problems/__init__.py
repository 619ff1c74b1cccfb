"""Problems: procedural families, files of your own, mixtures, the train/evaluation split."""

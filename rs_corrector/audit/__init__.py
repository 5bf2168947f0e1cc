"""How a checkpoint depicts perceived groups, before and after a correction; of generated images only."""

"""UniMoE-Audio at run time: bundles, backends, generation, audio. Never imports torch (docs/architecture.md)."""

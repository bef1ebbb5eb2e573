//! Kubernetes operator for Windlass registries.

//! What every daemon needs: start-up, logs, listeners, TLS, drain, reload, health and metrics.

"""VM Runtime: switches virtual machines on and off in a Kubernetes cluster, safely, and runs them."""

"""Planning success that can be defended: protocols, manifests, floors, intervals, videos, reports."""

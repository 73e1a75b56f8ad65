"""Any OCI registry, asked directly: where an artefact is, who may read it, and moving its blobs.

    place        host/path:tag@digest, and over which scheme it is asked
    credentials  what the user's docker or podman login knows of a host
    access       anonymous, basic and bearer, worked out from the registry's own challenge
    artefact     manifests and descriptors, as the image specification 1.1 has them
    client       manifests and blobs, up and down, resumed and checked
    layout       the same artefact as one tar file (an OCI image layout)

The protocol is the distribution specification 1.1. Registries of other ages are met half-way: what
one does not know (ranges, resumed uploads, mounting) costs time, never a right result.
"""

"""``mats rehearse``: every stage of a shipped configuration, on stand-ins of its pretrained parts."""

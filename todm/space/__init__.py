"""Subnet specs, elastic dimensions, search space, sandwich rule and costs in closed form. Without torch."""

"""Violation of expectation: does a world model notice what cannot happen?"""

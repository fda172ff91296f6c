"""The web page of a study: type and hear its voices, and measure whatever device has a browser."""

"""What training needs beside the network: losses, soft targets, companions of captions. No fairseq."""
